#include "chapters/09_paged_cache/quantised_pages.hpp"

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
  thread_local Scratch scratch;
  thread_local RowBlock block;
  const index_t width = formats_.width(), stride = formats_.bytes();
  float* const wide = scratch.floats(count * width);
  for (index_t s = first, end = first + count; s < end;) {
    const index_t i = s % sizes_.rows, together = std::min(sizes_.rows - i, end - s);
    const std::byte* const stored = row(pages[s / sizes_.rows], g, i);
    float* const out = wide + (s - first) * width;
    formats_.first->widen({stored, stride, together}, out, width);
    formats_.second->widen({stored + formats_.first->bytes(), stride, together}, out + formats_.first->width(), width);
    s += together;
  }
  const RowsView keys{wide, width, count, layout_.key_width};
  const RowsView values{wide + layout_.value_offset, width, count, layout_.value_width};
  block.pieces.assign(1, {keys, values});
  return block;
}
// [block]

}  // namespace kv
