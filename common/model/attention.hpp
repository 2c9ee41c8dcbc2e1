#pragma once
/// @file
/// The first seam of the book: one layer's attention, hidden states in, hidden states out. What a layer remembers of
/// earlier tokens, and in which form, is its own affair: the seam does not mention keys and values.
#include <vector>

#include "common/tensor/tensor.hpp"
#include "common/text/token.hpp"

namespace kv {

/// The next rows of x that belong to one sequence. A batch is a list of them; a solo run is a batch of one.
struct Segment {
  index_t sequence, first_row, rows;
  index_t position = 0;                 ///< of the first row: how many tokens the sequence had before
  std::span<const Token> tokens = {};   ///< (rows), for a layer that asks what was said; may be left out
};
using Batch = List<Segment>;

/// How much a layer must be able to hold: `sequences` of up to `capacity` tokens each.
struct Limits {
  index_t sequences = 1, capacity = 0;
};

/// Bytes for what is remembered: the number every chapter is about.
struct StateBytes {
  std::size_t allocated = 0;
  std::size_t used = 0;  ///< of these, by tokens that are held

  StateBytes& operator+=(const StateBytes& other) {
    allocated += other.allocated;
    used += other.used;
    return *this;
  }
  bool operator==(const StateBytes&) const = default;
};

/// What several stores of rows hold together.
template <class Stores>
StateBytes bytes_of_all(const Stores& stores) {
  StateBytes sum;
  for (const auto& store : stores) sum += store.bytes();
  return sum;
}

/// Attention of one layer over any number of sequences.
struct Attention {
  /// Appends the rows of x to their sequences and attends, every row to itself and to those before it that it may see.
  /// @param x (N,M)  @param batch segments that cover the N rows, no sequence twice, each at position length(sequence)
  /// @return (N,M)
  /// @throws Error as require_room; ShapeError; the state is unchanged then
  virtual Tensor<2> forward(const Tensor<2>& x, const Batch& batch) = 0;

  /// A whole model asks all layers before the first one runs.
  /// @throws Error when a sequence of the batch would outgrow what the layer can hold; a layer that grows never does
  virtual void require_room(const Batch&) const {}

  /// Says that the tokens so far were a prompt and what follows is generated. Called by whoever knows: no layer guesses it
  /// from the length of a chunk.
  virtual void prompt_ends(index_t /*sequence*/) {}

  /// Tokens of the sequence that need not be fed again: where its next row stands. How many rows are held for them is
  /// another number.
  virtual index_t length(index_t sequence) const = 0;

  /// Forgets the tail: a new turn, a rejected draft.
  /// @return how many of the first `length` tokens need not be fed again for the same bits: what length() says from now
  /// on. Less than `length` where rows that the next token would see are gone, or are kept in groups.
  /// @throws std::out_of_range when there are fewer
  virtual index_t truncate(index_t sequence, index_t length) = 0;

  /// Makes sequence `to` begin as `from` does; what it held is forgotten.
  /// @return how many of the first `length` tokens it need not be fed for the same bits; 0: the layer cannot
  virtual index_t share(index_t /*from*/, index_t to, index_t /*length*/) { return truncate(to, 0); }

  virtual StateBytes state_bytes() const = 0;

  virtual ~Attention() = default;
};

/// The absolute position of every row of the batch.
/// @throws std::invalid_argument when a segment does not begin where the layer's sequence ends
List<index_t> positions(const Batch& batch, const Attention& attention);

/// Throws std::out_of_range, naming both numbers, unless length <= held: what every truncate asks first.
void require_held(index_t length, index_t held);

/// Throws Error unless `count` more tokens fit behind `length` of `capacity`.
void require_room(index_t length, index_t capacity, index_t count);

}  // namespace kv
