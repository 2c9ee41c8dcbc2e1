#pragma once
/// @file
/// Storage that is used again: what a tensor gives back, the next one of its size gets. A decode step needs the same
/// sizes as the step before, so once it has had them all it asks the system's allocator for nothing.
#include <algorithm>
#include <cstddef>
#include <limits>
#include <new>
#include <type_traits>
#include <vector>

namespace kv {

/// Uninitialised memory, aligned to 64 bytes. Any thread may give it back, and any thread may get it then.
/// Blocks of up to 4 KB are cut from slabs and stay with the program. Larger ones wait for a request of exactly their
/// size; of those that wait, the oldest go back to the system as soon as they are more than 1 MB together.
/// @throws std::bad_alloc
void* take_block(std::size_t bytes);
/// @param bytes as asked for
void give_block(void* block, std::size_t bytes) noexcept;

/// Allocates from there, for containers. In checked builds new floats are NaN, lest one is read before it is written.
template <class T>
struct Recycled {
  using value_type = T;
  Recycled() = default;
  template <class U>
  Recycled(const Recycled<U>&) {}

  T* allocate(std::size_t count) {
    if (count > std::numeric_limits<std::size_t>::max() / sizeof(T)) throw std::bad_array_new_length();
    T* const block = static_cast<T*>(take_block(count * sizeof(T)));
#ifdef KV_CHECKED
    if constexpr (std::is_same_v<T, float>) std::fill_n(block, count, std::numeric_limits<float>::quiet_NaN());
#endif
    return block;
  }
  void deallocate(T* block, std::size_t count) noexcept { give_block(block, count * sizeof(T)); }

  template <class U>
  bool operator==(const Recycled<U>&) const {
    return true;
  }
};

/// A vector of what a step needs and forgets again.
template <class T>
using List = std::vector<T, Recycled<T>>;

}  // namespace kv
