#pragma once
/// @file
/// A fiber: a stack of its own and the place to go on from. One CUDA thread is one fiber; all fibers of a block take
/// turns on one thread of the operating system, and change hands only where they ask to.
#include <cstddef>

namespace simt {

/// What is kept of a stack that is not running.
struct Context {
  void* stack_pointer = nullptr;
  const void* stack = nullptr;  ///< its lowest address
  std::size_t stack_bytes = 0;
  void* tsan_fiber = nullptr;
  void* asan_stack = nullptr;
};

class Fiber {
 public:
  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  /// The next resume() calls `entry` on an empty stack. `entry` ends with finish().
  void prepare(void (*entry)(), std::size_t stack_offset);
  /// Runs the fiber until it suspends itself. @pre not called from a fiber
  void resume();

  /// Called first in `entry`.
  void begin();
  /// Goes back to whoever called resume().
  void suspend();
  /// The same, for the last time.
  [[noreturn]] void finish();

 private:
  Context self_, home_;
};

}  // namespace simt
