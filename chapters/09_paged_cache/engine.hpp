#pragma once
/// @file
/// A scheduler in a thread of its own: what a server talks to.
#include <condition_variable>
#include <functional>
#include <future>
#include <mutex>
#include <thread>
#include <vector>

#include "chapters/09_paged_cache/scheduler.hpp"

namespace kv {

/// One thread steps as long as there is work, and sleeps when there is none. Everybody else leaves it notes, which it reads
/// between two steps: so the scheduler needs no lock, and a note is heard within one step.
class Engine {
 public:
  explicit Engine(Scheduler scheduler);
  /// Cancels what is left, tells its clients, and ends the thread.
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  /// From any thread, the request's own functions included. Does not wait.
  /// @throws Error as Scheduler::require_valid, here and not later
  RequestId submit(Request request);
  /// From any thread, the request's own functions included. Does not wait: on_end tells when it is done.
  void cancel(RequestId id);

  /// How things stand between two steps. From any thread but the engine's.
  SchedulerStats stats();
  std::vector<PageView> pages();

  /// Returns when nothing is left to be done. From any thread but the engine's. Who wants that to happen submits no more.
  void drain();

 private:
  using Note = std::function<void(Scheduler&)>;
  void leave(Note note);  // to be read between two steps
  template <class Result>
  Result ask(Result (Scheduler::*question)() const);
  void run();

  Scheduler scheduler_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Note> notes_;   // guarded by mutex_
  RequestId next_ = 1;        // guarded by mutex_
  bool ends_ = false;         // guarded by mutex_
  bool idle_ = true;          // guarded by mutex_
  std::thread thread_;
};

}  // namespace kv
