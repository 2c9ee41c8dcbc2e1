#include "chapters/09_paged_cache/exact_pages.hpp"

namespace kv {

ExactPages::ExactPages(const RowLayout& layout, const PageSizes& sizes)
    : layout_(layout), sizes_(sizes), rows_(sizes.pages * page_floats() * sizeof(float)) {}

float* ExactPages::row(index_t page, index_t g, index_t i) const {
  return reinterpret_cast<float*>(rows_.data()) + page * page_floats() + (g * sizes_.rows + i) * layout_.width();
}

void ExactPages::put(index_t page, index_t i, index_t g, std::span<const float> first, std::span<const float> second) {
  std::ranges::copy(second, std::ranges::copy(first, row(page, g, i)).out);
}

void ExactPages::copy(index_t from, index_t to) { std::copy_n(row(from, 0, 0), page_floats(), row(to, 0, 0)); }

// [block]
const RowBlock& ExactPages::block(const PageList& pages, index_t g, index_t first,
                                  index_t count) const {
  thread_local RowBlock block;
  block.pieces.clear();
  for (index_t s = first, end = first + count; s < end;) {
    const index_t i = s % sizes_.rows, together = std::min(sizes_.rows - i, end - s);
    const float* const at = row(pages[s / sizes_.rows], g, i);
    block.pieces.push_back(
        {{at, layout_.width(), together, layout_.key_width},
         {at + layout_.value_offset, layout_.width(), together, layout_.value_width}});
    s += together;
  }
  return block;
}
// [block]

}  // namespace kv
