#pragma once
/// @file
/// The rows of one sequence in a smaller format, read a block at a time where attention asks for
/// them.
#include "chapters/01_uncached_attention/row_source.hpp"
#include "chapters/07_long_context/row_layout.hpp"
#include "chapters/08_quantised_cache/row_format.hpp"
#include "common/model/attention.hpp"
#include "common/tensor/memory.hpp"

namespace kv {

/// Keeps formats.bytes() bytes for each of C tokens and G heads, allocated once. The rows of a head
/// lie together. Rows 0 ... length()-1 are valid and never rewritten. A token sees its own row as
/// it is stored, too.
class QuantisedCache : public RowSource {
 public:
  /// @param layout of a row when it is widened: what its first format holds, and behind that what
  /// its second holds
  QuantisedCache(const RowFormats& formats, const RowLayout& layout, index_t capacity);

  /// Heads: keys in the first format, values in the second.  @param keys (N,G,D)  @param values
  /// (N,G,W)
  /// @throws Error when they do not fit, ShapeError; nothing is written then
  void append(const Tensor<3>& keys, const Tensor<3>& values, index_t first, index_t count);
  /// One row for all heads.  @param rows (N,R+P)  @throws as above
  void append(const Tensor<2>& rows, index_t first, index_t count);

  /// @return length  @throws std::out_of_range when length > length()
  index_t truncate(index_t length);
  /// Becomes a copy of the first `length` tokens of another cache of the same formats.  @return
  /// length
  index_t copy(const QuantisedCache& other, index_t length);
  index_t length() const { return length_; }
  index_t capacity() const { return capacity_; }
  StateBytes bytes() const;

  index_t heads() const override { return layout_.heads; }
  index_t value_width() const override { return layout_.value_width; }
  index_t count(index_t) const override { return length_; }
  /// @see read_block.hpp
  const RowBlock& block(index_t g, index_t first, index_t count) const override;

 private:
  std::byte* row(index_t g, index_t s) const {
    return rows_.data() + (g * capacity_ + s) * formats_.bytes();
  }
  void store(index_t g, std::span<const float> first, std::span<const float> second);

  RowFormats formats_;
  RowLayout layout_;
  index_t capacity_, length_ = 0;
  Memory rows_;  // (G, C, formats.bytes())
};

}  // namespace kv
