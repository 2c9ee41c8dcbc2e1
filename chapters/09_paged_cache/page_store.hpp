#pragma once
/// @file
/// What lies in the pages of one layer.
#include "chapters/01_uncached_attention/row_source.hpp"
#include "common/model/attention.hpp"

namespace kv {

/// The sizes of a pool: the same number of pages, of the same number of rows, in every layer.
struct PageSizes {
  index_t rows;   ///< of a page, a power of two
  index_t pages;  ///< in all
};

/// The pages of one sequence, in the order of its tokens. The first ones may have been given back.
struct PageList {
  std::vector<index_t> pages;
  index_t given_back = 0;

  index_t& operator[](index_t i) { return pages.at(i - given_back); }
  index_t operator[](index_t i) const { return pages.at(i - given_back); }
  index_t end() const { return given_back + pages.size(); }
};

/// One layer's rows, in pages of equal size. Who may write which page is the page table's affair.
struct PageStore {
  /// Writes row i of a page for head g: a key and a value, or of a latent its plain and its rotated part.
  virtual void put(index_t page, index_t i, index_t g, std::span<const float> first, std::span<const float> second) = 0;
  /// Makes page `to` a copy of page `from`.
  virtual void copy(index_t from, index_t to) = 0;
  /// Rows first ... first+count-1 of a sequence, as RowSource::block.
  virtual const RowBlock& block(const PageList& pages, index_t g, index_t first, index_t count) const = 0;

  virtual index_t heads() const = 0;
  virtual index_t value_width() const = 0;
  virtual std::size_t row_bytes() const = 0;  ///< of one token, all heads
  virtual ~PageStore() = default;
};

/// The rows of one sequence in a store: what attend() reads.
class PagedRows : public RowSource {
 public:
  PagedRows(const PageStore& store, const PageList& pages, index_t length)
      : store_(store), pages_(pages), length_(length) {}

  index_t heads() const override { return store_.heads(); }
  index_t value_width() const override { return store_.value_width(); }
  index_t count(index_t) const override { return length_; }
  const RowBlock& block(index_t g, index_t first, index_t count) const override {
    return store_.block(pages_, g, first, count);
  }

 private:
  const PageStore& store_;
  const PageList& pages_;
  index_t length_;
};

}  // namespace kv
