#pragma once
/// @file
/// Heads in 4 bits: keys along their channels, 32 positions at a time, values along their rows.
#include "chapters/01_uncached_attention/head_projection.hpp"
#include "chapters/08_quantised_cache/int4_rows.hpp"
#include "common/model/attention.hpp"
#include "common/tensor/memory.hpp"

namespace kv {

/// Positions that are rounded together.
inline constexpr index_t int4_group = 32;

/// The rows of one sequence in groups of 32 positions. A group is rounded when the first row of the
/// next one comes; until then its rows are kept in f32 beside. So what a token sees is said without
/// a chunk: token t sees row s rounded if and only if floor(s/32) < floor(t/32). REQUIRES: tokens
/// that are attended together are of one group.
///
/// In a group every channel of a key has a step and an offset for its 32 positions; values are
/// Int4Rows. KIVI keeps further exact rows, the latest n. Here there are none: whoever goes back to
/// an earlier length needs rows exact that were rounded since.
/// @see Liu et al. 2024, arXiv:2402.02750
class Int4Cache : public RowSource {
 public:
  Int4Cache(const HeadSizes& sizes, index_t capacity);

  /// At most as many rows as the open group has room for: see room_in_group().
  /// @param keys (N,G,D)  @param values (N,G,W)  @throws Error when they do not fit, ShapeError;
  /// nothing is written then
  void append(const Tensor<3>& keys, const Tensor<3>& values, index_t first, index_t count);
  /// How many rows come before the next group begins, at least one.
  index_t room_in_group() const { return int4_group - length_ % int4_group; }

  /// Keeps `length` rows if all from the last whole group on are still exact; else the whole groups
  /// before.
  /// @return how many are kept  @throws std::out_of_range when length > length()
  index_t truncate(index_t length);
  /// Becomes a copy of the first `length` tokens of another cache of the same sizes, or of fewer.
  /// @return of how many
  index_t copy(const Int4Cache& other, index_t length);
  index_t length() const { return length_; }
  index_t capacity() const { return capacity_; }
  StateBytes bytes() const;

  index_t heads() const override { return sizes_.key_value_heads; }
  index_t value_width() const override { return sizes_.value_width; }
  index_t count(index_t) const override { return length_; }
  const RowBlock& block(index_t g, index_t first, index_t count) const override;

 private:
  index_t D() const { return sizes_.key_width; }
  index_t code_bytes() const { return (D() + 1) / 2; }  // of one key
  index_t group_bytes() const { return keys_bytes() + int4_group * values_.bytes(); }
  index_t keys_bytes() const { return int4_group * code_bytes() + 2 * D() * sizeof(std::uint16_t); }
  // Group number i of head g: codes of 32 keys, D steps, D offsets, 32 values.
  std::byte* group(index_t g, index_t i) const {
    return groups_.data() + (g * group_count_ + i) * group_bytes();
  }
  index_t kept(index_t length) const {
    return length > rounded_ ? length : length / int4_group * int4_group;
  }
  void round_open_group();
  void store_keys(index_t g, std::byte* out) const;
  void widen(index_t g, index_t first, index_t count, float* out) const;

  HeadSizes sizes_;
  Int4Rows values_;
  index_t capacity_, group_count_;
  index_t length_ = 0, rounded_ = 0;  // rows; those from rounded_ on are exact
  Memory groups_;                     // (G, groups, group_bytes())
  Tensor<3> open_;                    // (32,G,D+W), row s in s mod 32
};

}  // namespace kv
