#pragma once
/// @file
/// The latents of one sequence in storage of fixed capacity: the small cache the book is named for.
#include "common/model/attention.hpp"

namespace kv {

/// Keeps R + P floats for each of C tokens, allocated once: one row for all heads.
/// A row is ready to be compared with queries: its latent is normed and its key part turned to the token's position.
/// Rows 0 ... length()-1 are valid and never rewritten; rows from length() on are unused capacity.
class LatentCache {
 public:
  LatentCache(index_t capacity, index_t row_width);

  /// Writes rows first ... first+count-1 behind the valid ones.
  /// @param latents (N,R+P)
  /// @throws Error when they do not fit, ShapeError; nothing is written then
  void append(const Tensor<2>& latents, index_t first, index_t count);
  /// @throws std::out_of_range when length > length()
  void truncate(index_t length);
  /// Becomes a copy of the first `length` tokens of another cache of the same width.
  void copy(const LatentCache& other, index_t length);

  const Tensor<2>& latents() const { return latents_; }  // (C,R+P)
  index_t length() const { return length_; }
  index_t capacity() const { return latents_.shape(0); }
  StateBytes bytes() const;

 private:
  Tensor<2> latents_;
  index_t length_ = 0;
};

}  // namespace kv
