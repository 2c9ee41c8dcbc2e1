#include "common/tensor/parallel.hpp"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

#include "common/tensor/waiting.hpp"

namespace kv {
namespace {

/// True in a thread that runs a body: a call from there runs serially.
thread_local bool inside_body = false;

/// One loop: chunks of the range are handed out to whoever asks next.
struct Loop {
  const std::function<void(index_t, index_t)>* body;
  index_t count, chunk;
  std::atomic<index_t> next{0};
  std::mutex mutex{};
  std::exception_ptr error{};

  Loop(const std::function<void(index_t, index_t)>& body, index_t count, index_t chunk)
      : body(&body), count(count), chunk(chunk) {}

  void work() {
    inside_body = true;
    try {
      for (index_t first; (first = next.fetch_add(chunk)) < count;) (*body)(first, std::min(count, first + chunk));
    } catch (...) {
      next = count;  // nobody starts another chunk
      const std::lock_guard lock(mutex);
      if (!error) error = std::current_exception();
    }
    inside_body = false;
  }
};

/// Threads that wait for loops. One loop at a time; the caller works too, and waits only for workers that have joined:
/// one that wakes up late finds the gate closed and delays nobody.
class Pool {
 public:
  explicit Pool(index_t workers) {
    for (index_t i = 0; i < workers; ++i) workers_.emplace_back([this] { serve(); });
  }
  ~Pool() {
    stop_ = true;
    announce();
    for (std::thread& worker : workers_) worker.join();
  }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  void run(Loop& loop) {
    loop_ = &loop;
    gate_ = open;
    announce();
    loop.work();
    gate_ &= ~open;
    wait([this] { return gate_ == 0; }, [this] { if (const int now = gate_; now != 0) gate_.wait(now); });
  }

 private:
  static constexpr int open = 1 << 30;

  void announce() {
    ++loops_;
    loops_.notify_all();
  }
  bool enter() {
    int inside = gate_;
    while (inside & open)
      if (gate_.compare_exchange_weak(inside, inside + 1)) return true;
    return false;
  }
  void leave() {
    if (--gate_ == 0) gate_.notify_one();
  }
  void serve() {
    for (int seen = 0; !stop_;) {
      if (enter()) {
        loop_->work();
        leave();
      }
      wait([&] { return loops_ != seen; }, [&] { loops_.wait(seen); });
      seen = loops_;
    }
  }

  Loop* loop_ = nullptr;
  alignas(64) std::atomic<int> loops_{0};  ///< how many loops were announced
  alignas(64) std::atomic<int> gate_{0};   ///< workers inside the loop, and whether another may enter
  std::atomic<bool> stop_{false};
  std::vector<std::thread> workers_;
};

}  // namespace

/// A pool, built when it is first needed.
struct Threads {
  std::mutex mutex{};
  std::atomic<index_t> count;
  std::unique_ptr<Pool> pool{};
};

namespace {

/// The share that this thread uses; none: the program's threads.
thread_local Threads* own_share = nullptr;

Threads& current() {
  static Threads programs{.count{std::max(1u, std::thread::hardware_concurrency())}};
  return own_share ? *own_share : programs;
}

}  // namespace

ThreadShare::ThreadShare(index_t count) : threads_(new Threads{.count{count}}) {
  if (count == 0) throw std::invalid_argument("ThreadShare: at least 1");
}
ThreadShare::~ThreadShare() = default;

ThreadShare::Use::Use(ThreadShare& share) : before_(std::exchange(own_share, share.threads_.get())) {}
ThreadShare::Use::~Use() { own_share = static_cast<Threads*>(before_); }

void set_threads(index_t count) {
  if (count == 0) throw std::invalid_argument("set_threads: at least 1");
  if (inside_body) throw std::logic_error("set_threads: called inside parallel_for");
  Threads& threads = current();
  const std::lock_guard lock(threads.mutex);
  if (count == threads.count) return;
  threads.pool.reset();
  threads.count = count;
}

index_t threads() { return current().count; }

void run_parallel(index_t count, index_t grain, const std::function<void(index_t first, index_t last)>& body) {
  if (count == 0) return;
  grain = std::max<index_t>(grain, 1);
  Threads& threads = current();
  // Another thread's loop is running: the processors are busy, so this one runs serially too.
  std::unique_lock lock(threads.mutex, std::defer_lock);
  if (count <= grain || inside_body || threads.count == 1 || !lock.try_lock()) return body(0, count);

  if (!threads.pool) threads.pool = std::make_unique<Pool>(threads.count - 1);
  // A few chunks per thread, so that one that was interrupted is not waited for.
  const index_t grains = (count + grain - 1) / grain, chunks = 4 * threads.count;
  Loop loop(body, count, grain * ((grains + chunks - 1) / chunks));
  threads.pool->run(loop);
  if (loop.error) std::rethrow_exception(loop.error);
}

}  // namespace kv
