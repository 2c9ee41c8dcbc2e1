#pragma once
/// @file
/// The first seam of the book: one layer's attention, hidden states in, hidden states out. What a layer remembers of
/// earlier tokens, and in which form, is its own affair: the seam does not mention keys and values.
#include <vector>

#include "common/tensor/tensor.hpp"

namespace kv {

/// The next rows of x that belong to one sequence. A batch is a list of them; a solo run is a batch of one.
struct Segment {
  index_t sequence, first_row, rows;
};
using Batch = std::vector<Segment>;

/// How much a layer must be able to hold: `sequences` of up to `capacity` tokens each.
struct Limits {
  index_t sequences = 1, capacity = 0;
};

/// Attention of one layer over any number of sequences.
struct Attention {
  /// Appends the rows of x to their sequences and attends, every row to itself and to all before it.
  /// The first row of a segment stands at position length(sequence).
  /// @param x (N,M)  @param batch segments that cover the N rows, no sequence twice  @return (N,M)
  /// @throws Error when a sequence would outgrow the capacity; ShapeError; the state is unchanged then
  virtual Tensor<2> forward(const Tensor<2>& x, const Batch& batch) = 0;

  /// Tokens of the sequence that the layer remembers: where its next row stands.
  virtual index_t length(index_t sequence) const = 0;

  /// Forgets the tail, so that `length` tokens remain: a new turn, a rejected draft.
  /// @throws std::out_of_range when there are fewer
  virtual void truncate(index_t sequence, index_t length) = 0;

  /// Bytes allocated for what is remembered: the number every chapter is about.
  virtual std::size_t state_bytes() const = 0;

  virtual ~Attention() = default;
};

/// The absolute position of every row of the batch.
std::vector<index_t> positions(const Batch& batch, const Attention& attention);

}  // namespace kv
