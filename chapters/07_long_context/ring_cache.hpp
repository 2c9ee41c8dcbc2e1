#pragma once
/// @file
/// A cache that forgets by age: the first rows stay, of the others only the latest, in storage that is used in a ring.
#include "chapters/01_uncached_attention/row_source.hpp"
#include "chapters/07_long_context/row_layout.hpp"
#include "common/model/attention.hpp"

namespace kv {

/// Tokens that go through a ring together. A chunk of n tokens needs the rows that its first token sees and its own n - 1
/// behind that one: a longer chunk is taken in pieces. Between chunks the same rows are slack, so that taking back a stop
/// token or a draft costs nothing.
inline constexpr index_t ring_piece = 128;

/// Rows of one sequence, counted from its first token. Rows 0 ... sinks-1 stay for ever; row s from there on lies in slot
/// sinks + (s - sinks) mod R, so that a new row overwrites the one R rows before it. R = window - 1 + ring_piece.
class RingCache : public RowSource {
 public:
  /// @param window how many rows a token sees, its own counted, besides the sinks
  /// @param capacity never more rows than this are stored
  RingCache(const RowLayout& layout, index_t window, index_t sinks, index_t capacity);

  /// Heads: a row's value lies behind its key.  @param keys (N,G,D)  @param values (N,G,W)  @throws ShapeError
  void append(const Tensor<3>& keys, const Tensor<3>& values, index_t first, index_t count);
  /// One row for all heads.  @param rows (N,R+P)  @throws ShapeError
  void append(const Tensor<2>& rows, index_t first, index_t count);

  index_t length() const { return length_; }
  /// What the next token sees, and those after it.
  CausalMask mask() const { return {.position = length_, .window = window_, .sinks = sinks_}; }
  /// Keeps `length` rows if all that the next token would see are still there; else none: what is gone cannot be made again
  /// from what is held.  @return how many are kept  @throws std::out_of_range when length > length()
  index_t truncate(index_t length);
  StateBytes bytes() const;

  index_t heads() const override { return layout_.heads; }
  index_t value_width() const override { return layout_.value_width; }
  index_t count(index_t) const override { return length_; }
  const RowBlock& block(index_t g, index_t first, index_t count) const override;

 private:
  // [slot]
  index_t slot(index_t s) const { return s < sinks_ ? s : sinks_ + (s - sinks_) % ring_; }
  // [slot]
  std::span<float> new_row(index_t g);

  RowLayout layout_;
  index_t window_, sinks_, ring_, length_ = 0;
  Tensor<3> rows_;  // (sinks + ring, G, width)
};

}  // namespace kv
