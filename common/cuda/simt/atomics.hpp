#pragma once
/// @file
/// Atomic read-modify-write, relaxed as on the GPU: it orders nothing but itself.
/// @see CUDA C++ Programming Guide, "Atomic Functions"
#include <concepts>
#include <type_traits>

#include "common/cuda/simt/runtime.hpp"

namespace simt {

/// *address = change(*address), at once. @return the old value
template <class T, class Change>
T exchange(T* address, Change change) {
  T old, changed;
  __atomic_load(address, &old, __ATOMIC_RELAXED);
  do
    changed = change(old);
  while (!__atomic_compare_exchange(address, &old, &changed, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  note_atomic(address);
  return old;
}

}  // namespace simt

template <class T>
T atomicAdd(T* address, std::type_identity_t<T> value) {
  return simt::exchange(address, [=](T old) { return static_cast<T>(old + value); });
}

template <std::integral T>
T atomicMax(T* address, std::type_identity_t<T> value) {
  return simt::exchange(address, [=](T old) { return old < value ? value : old; });
}

template <std::integral T>
T atomicMin(T* address, std::type_identity_t<T> value) {
  return simt::exchange(address, [=](T old) { return value < old ? value : old; });
}

template <class T>
T atomicExch(T* address, std::type_identity_t<T> value) {
  return simt::exchange(address, [=](T) { return value; });
}

template <class T>
T atomicCAS(T* address, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  return simt::exchange(address, [=](T old) { return old == expected ? value : old; });
}

/// 0, 1 ... limit, 0, 1 ...
inline unsigned atomicInc(unsigned* address, unsigned limit) {
  return simt::exchange(address, [=](unsigned old) { return old >= limit ? 0 : old + 1; });
}

template <std::integral T>
T atomicOr(T* address, std::type_identity_t<T> value) {
  return simt::exchange(address, [=](T old) { return old | value; });
}

template <std::integral T>
T atomicAnd(T* address, std::type_identity_t<T> value) {
  return simt::exchange(address, [=](T old) { return old & value; });
}
