#pragma once
/// @file
/// Where the stored rows lie is the affair of whoever stores them: attention asks for a block at a time.
#include <limits>
#include <vector>

#include "common/tensor/attention_sums.hpp"
#include "common/tensor/tensor.hpp"

namespace kv {

/// Blocks begin at multiples of this, counted from row 0: where a block ends decides the last bits (see attend_shared).
inline constexpr index_t block_rows = 128;

/// Keys and values of some tokens, one row each.
struct SharedRows {
  RowsView keys;    // (S,D)
  RowsView values;  // (S,W)
};

/// Up to 128 rows of one head, where this thread can read them: in pieces that lie together.
struct RowBlock {
  List<SharedRows> pieces;
  /// Of copies: the stored rows of this head's next block. Null if they are not known, or these are no copies.
  NextRows next{};

  /// scores[q * stride + i] = query q . key first + i, for rows first ... first+count-1 of the block.
  /// The score of a row is the same bits wherever the row lies.  @param queries (Q,D), scaled
  virtual void scores(const RowsView& queries, index_t first, index_t count, float* scores, index_t stride) const;
  /// out[q * stride + w] += weights[q][i] * value of row first + i, one chain over ascending i.
  /// @param weights (Q,count)  @param out Q rows of W
  virtual void add_weighted(const RowsView& weights, index_t first, index_t count, float* out, index_t stride) const;

  virtual ~RowBlock() = default;
};

// [source]
/// The stored rows of all G heads. Rows of a head are counted in ascending positions, from 0: for
/// most sources a row's number is its position, but a head may also hold fewer rows than its
/// neighbours.
struct RowSource {
  virtual index_t heads() const = 0;               ///< G
  virtual index_t value_width() const = 0;         ///< W
  virtual index_t count(index_t g) const = 0;      ///< rows of head g
  /// Rows first ... first+count-1 of head g, at most 128 and all in one block: one call for keys
  /// and values, so one look-up of a page and one widening of its numbers. Good until this thread
  /// asks again. A source may return a block with sums of its own.
  virtual const RowBlock& block(index_t g, index_t first, index_t count) const = 0;
  virtual ~RowSource() = default;
};
// [source]

/// Rows that lie in one piece, all heads of a token side by side.
class ContiguousRows : public RowSource {
 public:
  /// The first S rows.  @param keys (C,G,D)  @param values (C,G,W), not copied
  ContiguousRows(const Tensor<3>& keys, const Tensor<3>& values, index_t S);
  /// @param first_head the rows of head 0; those of head g lie g widths further on
  ContiguousRows(const SharedRows& first_head, index_t G) : first_head_(first_head), heads_(G) {}

  index_t heads() const override { return heads_; }
  index_t value_width() const override { return first_head_.values.width; }
  index_t count(index_t) const override { return first_head_.keys.count; }
  const RowBlock& block(index_t g, index_t first, index_t count) const override;

 private:
  SharedRows first_head_;
  index_t heads_;
};

/// What one token sees: rows first ... end-1, and before them rows 0 ... sinks-1.
struct Visible {
  index_t first, end, sinks = 0;
};

inline constexpr index_t no_window = std::numeric_limits<index_t>::max();

// [mask]
/// The causal mask: a token sees itself and those before it; of these the nearest `window`, itself
/// counted, and the first `sinks`. As long as that is everything, it is one range.
struct CausalMask {
  index_t position;  ///< of the first token
  index_t window = no_window;
  index_t sinks = 0;

  /// Of the token at position + t.
  Visible operator()(index_t t) const {
    const index_t end = position + t + 1;
    return end - std::min(end, sinks) <= window ? Visible{0, end}
                                                : Visible{end - window, end, sinks};
  }
};
// [mask]

}  // namespace kv
