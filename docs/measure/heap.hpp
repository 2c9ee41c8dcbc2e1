#pragma once
/// @file
/// What the program asks the allocator for, and what the allocator holds. heap.cpp replaces the global operator new, so
/// only the measuring program is counted, never kvbook itself.
#include <cstddef>

namespace kv::book {

/// Calls to operator new since the last reset.
struct HeapTraffic {
  std::size_t allocations;      ///< calls
  std::size_t bytes;            ///< asked for, over all calls
  std::size_t largest;          ///< single call
  std::size_t peak_above_start; ///< the most live bytes at one time, above those at the reset
  std::size_t live_above_start; ///< live now, above those at the reset
};

/// Starts counting anew.
void reset_heap_traffic();
HeapTraffic heap_traffic();

/// The allocator's view (glibc's main arena and mapped blocks; zeros on other systems).
struct HeapHolding {
  std::size_t held;    ///< bytes taken from the system
  std::size_t in_use;  ///< of those, in blocks that the program has
};
HeapHolding heap_holding();
/// Gives back to the system what can be given back.
void trim_heap();

}  // namespace kv::book
