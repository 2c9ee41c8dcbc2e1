#pragma once
/// @file
/// What attention over pages does alike, whatever its rows are.
#include <memory>

#include "chapters/09_paged_cache/page_table.hpp"

namespace kv {

/// One layer's share of a page table. A batch for which there are not enough pages is refused before anything is written.
class PagedLayer : public Attention {
 public:
  /// @param window how many tokens each one sees
  PagedLayer(std::shared_ptr<PageTable> table, std::shared_ptr<PageStore> store, index_t window)
      : table_(std::move(table)), store_(std::move(store)), layer_(table_->add_layer(store_, window)) {}

  index_t length(index_t sequence) const override { return table_->length(layer_, sequence); }
  void require_room(const Batch& batch) const override { table_->require_room(batch); }
  index_t truncate(index_t sequence, index_t length) override { return table_->truncate(layer_, sequence, length); }
  index_t share(index_t from, index_t to, index_t length) override { return table_->share(layer_, from, to, length); }
  /// All layers hold the same tokens, each its own rows of them.
  StateBytes state_bytes() const override;

 protected:
  /// Writes every row of the batch behind its sequence's.
  /// @param put writes row n of the batch as row i of a page
  template <class Put>
  void append(const Batch& batch, Put put);
  /// The rows of a sequence, as attend() reads them.
  PagedRows rows_of(index_t sequence) const { return {*store_, table_->pages(sequence), length(sequence)}; }
  PageStore& store() { return *store_; }

 private:
  std::shared_ptr<PageTable> table_;
  std::shared_ptr<PageStore> store_;
  index_t layer_;
};

// [append]
template <class Put>
void PagedLayer::append(const Batch& batch, Put put) {
  table_->reserve(batch);
  for (const Segment& segment : batch) table_->advance(layer_, segment.sequence, segment.rows);
  const index_t page_rows = table_->sizes().rows;
  for (const auto& [sequence, first, count, position, tokens] : batch)
    for (index_t t = 0; t < count; ++t) {
      const index_t s = position + t;
      put(first + t, table_->pages(sequence)[s / page_rows], s % page_rows);
    }
}
// [append]

}  // namespace kv
