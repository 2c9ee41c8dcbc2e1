#pragma once
/// @file
/// Keys and values of one sequence in storage of fixed capacity.
#include "chapters/01_uncached_attention/head_projection.hpp"
#include "common/model/attention.hpp"

namespace kv {

/// Keeps G * (D + W) floats for each of C tokens, allocated once.
/// Rows 0 ... length()-1 are valid and never rewritten; rows from length() on are unused capacity.
class HeadCache {
 public:
  HeadCache(index_t capacity, const HeadSizes& sizes);

  /// Writes rows first ... first+count-1 behind the valid ones.
  /// @param keys (N,G,D)  @param values (N,G,W)
  /// @throws Error when they do not fit, ShapeError, std::out_of_range for rows that are not there; nothing is written then
  void append(const Tensor<3>& keys, const Tensor<3>& values, index_t first, index_t count);
  /// @throws std::out_of_range when length > length()
  void truncate(index_t length);
  /// Becomes a copy of the first `length` tokens of another cache of the same sizes.
  void copy(const HeadCache& other, index_t length);

  const Tensor<3>& keys() const { return keys_; }      // (C,G,D)
  const Tensor<3>& values() const { return values_; }  // (C,G,W)
  index_t length() const { return length_; }
  index_t capacity() const { return keys_.shape(0); }
  StateBytes bytes() const;

 private:
  Tensor<3> keys_, values_;
  index_t length_ = 0;
};

}  // namespace kv
