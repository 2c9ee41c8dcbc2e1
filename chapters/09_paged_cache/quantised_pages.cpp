#include "chapters/09_paged_cache/quantised_pages.hpp"

#include "chapters/08_quantised_cache/read_block.hpp"

namespace kv {

QuantisedPages::QuantisedPages(const RowFormats& formats, const RowLayout& layout, const PageSizes& sizes)
    : formats_(formats), layout_(layout), sizes_(sizes), rows_(sizes.pages * sizes.rows * row_bytes()) {}

std::byte* QuantisedPages::row(index_t page, index_t g, index_t i) const {
  return rows_.data() + ((page * heads() + g) * sizes_.rows + i) * formats_.bytes();
}

void QuantisedPages::put(index_t page, index_t i, index_t g, std::span<const float> first, std::span<const float> second) {
  std::byte* const out = row(page, g, i);
  formats_.first->store(first, out);
  formats_.second->store(second, out + formats_.first->bytes());
}

void QuantisedPages::copy(index_t from, index_t to) {
  std::copy_n(row(from, 0, 0), sizes_.rows * row_bytes(), row(to, 0, 0));
}

// [block]
const RowBlock& QuantisedPages::block(const PageList& pages, index_t g, index_t first, index_t count) const {
  thread_local List<StoredRows> pieces;
  pieces.clear();
  for (index_t s = first, end = first + count; s < end; s += pieces.back().count) {
    const index_t i = s % sizes_.rows;
    pieces.push_back({row(pages[s / sizes_.rows], g, i), formats_.bytes(), std::min(sizes_.rows - i, end - s)});
  }
  return read_block(formats_, layout_, pieces);
}
// [block]

}  // namespace kv
