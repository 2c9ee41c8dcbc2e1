#include "chapters/10_tensor_parallel/thread_communicator.hpp"

#include <atomic>
#include <mutex>
#include <thread>

#include "common/tensor/waiting.hpp"

namespace kv {
namespace {

/// What all ranks see: where each one's parts lie, and how many have come.
struct MeetingPlace {
  explicit MeetingPlace(index_t ranks) : offered(ranks) {}

  std::vector<const std::vector<ConstBytes>*> offered;  // by each rank: a part for each
  /// Not at all where a rank that waits busily would take the processor from one that works.
  std::chrono::microseconds busy{offered.size() <= std::thread::hardware_concurrency() ? 50 : 0};
  std::atomic<int> meetings = 0;
  std::atomic<index_t> arrived = 0;
  std::atomic<bool> aborted = false;
  std::mutex saying;  // guards why
  std::string why;

  /// Returns when everybody has called it.  @throws Aborted
  void meet() {
    const int meeting = meetings;
    if (++arrived == offered.size()) {
      arrived = 0;
      next();
    } else {
      wait([&] { return meetings != meeting || aborted; }, [&] { meetings.wait(meeting); }, busy);
    }
    if (!aborted) return;
    const std::lock_guard lock(saying);
    throw Aborted(why);
  }

  void abort(const std::string& reason) {
    const std::lock_guard lock(saying);
    if (aborted) return;  // the first one says why
    why = reason;
    aborted = true;
    next();
  }

  void next() {
    ++meetings;
    meetings.notify_all();
  }
};

class ThreadCommunicator : public Communicator {
 public:
  ThreadCommunicator(std::shared_ptr<MeetingPlace> place, index_t rank) : place_(std::move(place)), rank_(rank) {}

  index_t rank() const override { return rank_; }
  index_t ranks() const override { return place_->offered.size(); }
  void abort(const std::string& why) noexcept override { place_->abort(why); }

 protected:
  // [exchange]
  /// Everybody says where their parts lie, copies what is theirs, and waits until nobody reads any
  /// more.
  void exchange(const std::vector<ConstBytes>& out, const std::vector<Bytes>& in) override {
    place_->offered[rank_] = &out;
    place_->meet();
    bool fits = true;
    for (index_t r = 0; r < ranks(); ++r) {
      const ConstBytes theirs = (*place_->offered[r])[rank_];
      if (theirs.size() == in[r].size())
        std::ranges::copy(theirs, in[r].begin());
      else
        fits = false;
    }
    place_->meet();
    if (!fits)
      throw std::logic_error("exchange: a rank sends another number of bytes than rank " +
                             std::to_string(rank_) + " expects");
  }
  // [exchange]

 private:
  std::shared_ptr<MeetingPlace> place_;
  index_t rank_;
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> thread_communicators(index_t ranks) {
  if (ranks == 0) throw std::invalid_argument("thread_communicators: at least 1 rank");
  const auto place = std::make_shared<MeetingPlace>(ranks);
  std::vector<std::unique_ptr<Communicator>> ends;
  for (index_t r = 0; r < ranks; ++r) ends.push_back(std::make_unique<ThreadCommunicator>(place, r));
  return ends;
}

}  // namespace kv
