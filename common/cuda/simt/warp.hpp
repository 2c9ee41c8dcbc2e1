#pragma once
/// @file
/// Warp intrinsics: shuffles and votes. All lanes of the mask must come, or the program ends with a report.
/// @see CUDA C++ Programming Guide, "Warp Vote Functions", "Warp Shuffle Functions"
#include <bit>
#include <cstring>
#include <type_traits>

#include "common/cuda/simt/runtime.hpp"

namespace simt {

template <class T>
struct Shuffle {
  T value;
  int source;
  T result;
};

template <class T>
SIMT_COLLECTIVE void shuffle_lanes(void* const* lanes, unsigned mask) {
  for (unsigned lane = 0; lane < warp_size; ++lane) {
    if (!(mask >> lane & 1)) continue;
    auto* self = static_cast<Shuffle<T>*>(lanes[lane]);
    if (mask >> self->source & 1)
      self->result = static_cast<Shuffle<T>*>(lanes[self->source])->value;
    else
      std::memset(&self->result, 0xff, sizeof(T));  // undefined, says CUDA: poison
  }
}

template <class T>
T shuffle(unsigned mask, T value, int source, const Where& where) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8), "shuffles move 4 or 8 bytes");
  Shuffle<T> operands{value, source, value};
  collective(shuffle_lanes<T>, mask, &operands, where);
  return operands.result;
}

/// The first and the last lane of the caller's group of `width` lanes.
inline int first_of_group(int width) { return static_cast<int>(lane()) & ~(width - 1); }
inline int last_of_group(int width) { return first_of_group(width) + width - 1; }

struct Vote {
  bool predicate;
  unsigned result;
};

SIMT_COLLECTIVE inline void count_votes(void* const* lanes, unsigned mask) {
  unsigned ballot = 0;
  for (unsigned lane = 0; lane < warp_size; ++lane)
    if (mask >> lane & 1) ballot |= unsigned{static_cast<Vote*>(lanes[lane])->predicate} << lane;
  for (unsigned lane = 0; lane < warp_size; ++lane)
    if (mask >> lane & 1) static_cast<Vote*>(lanes[lane])->result = ballot;
}

}  // namespace simt

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, simt::Where where = simt::Where::current()) {
  return simt::shuffle(mask, value, simt::first_of_group(width) + (source & (width - 1)), where);
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, simt::Where where = simt::Where::current()) {
  const int self = static_cast<int>(simt::lane()), source = self ^ bits;
  return simt::shuffle(mask, value, source <= simt::last_of_group(width) ? source : self, where);
}

template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned distance, int width = 32,
                   simt::Where where = simt::Where::current()) {
  const int self = static_cast<int>(simt::lane()), source = self + static_cast<int>(distance);
  return simt::shuffle(mask, value, source <= simt::last_of_group(width) ? source : self, where);
}

template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned distance, int width = 32,
                 simt::Where where = simt::Where::current()) {
  const int self = static_cast<int>(simt::lane()), source = self - static_cast<int>(distance);
  return simt::shuffle(mask, value, source >= simt::first_of_group(width) ? source : self, where);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, simt::Where where = simt::Where::current()) {
  simt::Vote vote{predicate != 0, 0};
  simt::collective(simt::count_votes, mask, &vote, where);
  return vote.result;
}

inline int __any_sync(unsigned mask, int predicate, simt::Where where = simt::Where::current()) {
  return __ballot_sync(mask, predicate, where) != 0;
}

inline int __all_sync(unsigned mask, int predicate, simt::Where where = simt::Where::current()) {
  return __ballot_sync(mask, predicate, where) == mask;
}
