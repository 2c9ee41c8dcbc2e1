#pragma once
/// @file
/// Threads. Work is split over outputs, never over a sum, so the number of threads cannot change a single bit.
#include <functional>
#include <memory>

#include "common/tensor/tensor.hpp"

namespace kv {

/// How many threads parallel_for uses, this thread included. At the start: one per core.
/// @throws std::invalid_argument for 0, std::logic_error inside parallel_for
void set_threads(index_t count);
index_t threads();

/// Threads set apart for a part of the program that works beside others, such as one rank of several. Where it is in use,
/// parallel_for and threads() know these threads and no others.
class ThreadShare {
 public:
  /// @throws std::invalid_argument for 0
  explicit ThreadShare(index_t count);
  ~ThreadShare();

  /// Uses a share in this thread until the end of the scope. In one thread at a time.
  class Use {
   public:
    explicit Use(ThreadShare& share);
    ~Use();
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;

   private:
    void* before_;
  };

 private:
  std::unique_ptr<struct Threads> threads_;
};

void run_parallel(index_t count, index_t grain, const std::function<void(index_t first, index_t last)>& body);

/// Calls body(first, last) on disjoint ranges that together cover 0 ... count-1, each starting at a multiple of `grain`
/// and at least that long where possible, and returns when all are done. An exception in body is rethrown here. Calls inside body run serially.
template <class Body>
void parallel_for(index_t count, index_t grain, const Body& body) {
  run_parallel(count, grain, std::cref(body));  // a copy of what a lambda captures would need memory
}

}  // namespace kv
