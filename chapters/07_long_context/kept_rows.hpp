#pragma once
/// @file
/// The rows that are left of a sequence when some are given up, other ones in each head.
#include <vector>

#include "chapters/01_uncached_attention/row_source.hpp"
#include "chapters/07_long_context/row_layout.hpp"
#include "common/model/attention.hpp"

namespace kv {

/// Takes the elements at these indices out, the others close up. An element is `width` numbers.
/// @param indices ascending, at least one
template <class T>
void take_out(std::vector<T>& elements, std::span<const index_t> indices, index_t width = 1) {
  const auto at = [&](index_t i) { return elements.begin() + static_cast<std::ptrdiff_t>(i * width); };
  auto end = at(indices.front());
  for (index_t i = 0; i < indices.size(); ++i)
    end = std::move(at(indices[i] + 1), i + 1 < indices.size() ? at(indices[i + 1]) : elements.end(), end);
  elements.erase(end, elements.end());
}

/// Rows of one sequence. Those of a head lie together in ascending positions: the row of a token that was fed earlier lies
/// before that of a later one, whatever was between them. What is given up is overwritten.
class KeptRows : public RowSource {
 public:
  /// @param room rows of each head that there is memory for from the beginning; more make it grow
  KeptRows(const RowLayout& layout, index_t room);

  /// Row n of these, behind the others.  @param position of its token
  void append(const Tensor<3>& keys, const Tensor<3>& values, index_t n, index_t position);
  /// One row for all heads.
  void append(const Tensor<2>& rows, index_t n, index_t position);
  /// Gives up rows of head g. Memory goes back when more than half of it would lie idle.
  /// @param indices ascending, below count(g)
  void drop(index_t g, std::span<const index_t> indices);

  /// Of the rows of head g, where their tokens stand in the text.
  const std::vector<index_t>& positions(index_t g) const { return heads_.at(g).positions; }
  StateBytes bytes() const;

  index_t heads() const override { return layout_.heads; }
  index_t value_width() const override { return layout_.value_width; }
  index_t count(index_t g) const override { return heads_[g].positions.size(); }
  const RowBlock& block(index_t g, index_t first, index_t count) const override;

 private:
  struct Head {
    std::vector<float> rows;  // (count, width)
    std::vector<index_t> positions;
  };

  RowLayout layout_;
  std::vector<Head> heads_;  // (G)
};

}  // namespace kv
