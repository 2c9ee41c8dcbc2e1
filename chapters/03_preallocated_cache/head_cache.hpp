#pragma once
/// @file
/// Keys and values of one sequence in storage of fixed capacity.
#include "chapters/01_uncached_attention/head_projection.hpp"

namespace kv {

/// Throws Error unless `count` more tokens fit behind `length` of `capacity`.
void require_room(index_t length, index_t capacity, index_t count);

/// Keeps G * (D + W) floats for each of C tokens, allocated once.
/// Rows 0 ... length()-1 are valid and never rewritten; rows from length() on are unused capacity.
class HeadCache {
 public:
  HeadCache(index_t capacity, const HeadSizes& sizes);

  /// Writes rows first ... first+count-1 behind the valid ones.
  /// @param keys (N,G,D)  @param values (N,G,W)
  /// @throws Error when they do not fit, ShapeError, std::out_of_range for rows that are not there; nothing is written then
  void append(const Tensor<3>& keys, const Tensor<3>& values, index_t first, index_t count);
  /// Throws what append would throw for `count` more rows.
  void require_room(index_t count) const;
  /// @throws std::out_of_range when length > length()
  void truncate(index_t length);

  const Tensor<3>& keys() const { return keys_; }      // (C,G,D)
  const Tensor<3>& values() const { return values_; }  // (C,G,W)
  index_t length() const { return length_; }
  index_t capacity() const { return keys_.shape(0); }
  std::size_t bytes() const { return (keys_.size() + values_.size()) * sizeof(float); }

 private:
  Tensor<3> keys_, values_;
  index_t length_ = 0;
};

}  // namespace kv
