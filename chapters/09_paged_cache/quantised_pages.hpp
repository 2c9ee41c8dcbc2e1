#pragma once
/// @file
/// Pages of rows in a format of chapter 8.
#include "chapters/07_long_context/row_layout.hpp"
#include "chapters/08_quantised_cache/row_format.hpp"
#include "chapters/09_paged_cache/page_store.hpp"
#include "common/tensor/memory.hpp"

namespace kv {

/// As ExactPages, with formats.bytes() bytes for each row and head, read a block at a time. A row is rounded by itself, so
/// it is the same bytes in every page. int4 keys are rounded in groups of 32 rows: they have no such format.
class QuantisedPages : public PageStore {
 public:
  /// @param layout of a row when it is widened
  QuantisedPages(const RowFormats& formats, const RowLayout& layout, const PageSizes& sizes);

  void put(index_t page, index_t i, index_t g, std::span<const float> first, std::span<const float> second) override;
  void copy(index_t from, index_t to) override;
  const RowBlock& block(const PageList& pages, index_t g, index_t first, index_t count) const override;
  index_t heads() const override { return layout_.heads; }
  index_t value_width() const override { return layout_.value_width; }
  std::size_t row_bytes() const override { return layout_.heads * formats_.bytes(); }

 private:
  std::byte* row(index_t page, index_t g, index_t i) const;

  RowFormats formats_;
  RowLayout layout_;
  PageSizes sizes_;
  Memory rows_;  // (pages, G, rows, formats.bytes())
};

}  // namespace kv
