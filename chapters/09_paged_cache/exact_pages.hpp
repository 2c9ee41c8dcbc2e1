#pragma once
/// @file
/// Pages of rows as they were made, in f32.
#include "chapters/07_long_context/row_layout.hpp"
#include "chapters/09_paged_cache/page_store.hpp"
#include "common/tensor/memory.hpp"

namespace kv {

/// Keeps width() floats for each row and head; the rows of a head lie together in a page. Read in place.
class ExactPages : public PageStore {
 public:
  ExactPages(const RowLayout& layout, const PageSizes& sizes);

  void put(index_t page, index_t i, index_t g, std::span<const float> first, std::span<const float> second) override;
  void copy(index_t from, index_t to) override;
  const RowBlock& block(const PageList& pages, index_t g, index_t first, index_t count) const override;
  index_t heads() const override { return layout_.heads; }
  index_t value_width() const override { return layout_.value_width; }
  std::size_t row_bytes() const override { return layout_.heads * layout_.width() * sizeof(float); }

 private:
  index_t page_floats() const { return layout_.heads * sizes_.rows * layout_.width(); }
  float* row(index_t page, index_t g, index_t i) const;

  RowLayout layout_;
  PageSizes sizes_;
  Memory rows_;  // (pages, G, rows, width)
};

}  // namespace kv
