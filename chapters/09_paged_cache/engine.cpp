#include "chapters/09_paged_cache/engine.hpp"

namespace kv {

Engine::Engine(Scheduler scheduler) : scheduler_(std::move(scheduler)), thread_([this] { run(); }) {}

Engine::~Engine() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

RequestId Engine::submit(Request request) {
  scheduler_.require_valid(request);
  const auto shared = std::make_shared<Request>(std::move(request));  // a note is copied, a request need not be
  RequestId id;
  {
    const std::lock_guard lock(mutex_);
    id = next_++;  // together with the note: requests come in the order of their numbers
    notes_.push_back([=](Scheduler& scheduler) { scheduler.submit(id, std::move(*shared)); });
    idle_ = false;
  }
  changed_.notify_all();
  return id;
}

void Engine::cancel(RequestId id) {
  leave([=](Scheduler& scheduler) { scheduler.cancel(id); });
}

void Engine::leave(Note note) {
  {
    const std::lock_guard lock(mutex_);
    notes_.push_back(std::move(note));
    idle_ = false;
  }
  changed_.notify_all();
}

template <class Result>
Result Engine::ask(Result (Scheduler::*question)() const) {
  auto answer = std::make_shared<std::promise<Result>>();
  std::future<Result> result = answer->get_future();
  leave([=](Scheduler& scheduler) { answer->set_value((scheduler.*question)()); });
  return result.get();
}

SchedulerStats Engine::stats() { return ask(&Scheduler::stats); }
std::vector<PageView> Engine::pages() { return ask(&Scheduler::pages); }

void Engine::drain() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return idle_; });
}

// [run]
void Engine::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return ends_ || !idle_; });
    std::vector<Note> notes = std::exchange(notes_, {});
    const bool ends = ends_;
    lock.unlock();
    for (const Note& note : notes) note(scheduler_);
    if (ends) scheduler_.cancel_all();
    const bool more = scheduler_.step();
    lock.lock();
    idle_ = !more && notes_.empty();
    if (idle_) changed_.notify_all();
    if (ends && idle_) return;
  }
}
// [run]

}  // namespace kv
