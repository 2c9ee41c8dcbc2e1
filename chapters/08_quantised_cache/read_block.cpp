#include "chapters/08_quantised_cache/read_block.hpp"

#include "chapters/08_quantised_cache/code_block.hpp"
#include "common/tensor/memory.hpp"

namespace kv {
namespace {

// [widened]
const RowBlock& widened(const RowFormats& formats, const RowLayout& layout,
                        std::span<const StoredRows> pieces, const NextRows& next) {
  thread_local Scratch scratch;
  thread_local RowBlock block;
  const index_t width = formats.width();
  index_t count = 0;
  for (const StoredRows& piece : pieces) count += piece.count;
  float* const wide = scratch.floats(count * width);
  float* out = wide;
  for (const StoredRows& piece : pieces) {
    formats.first->widen(piece, out, width);
    formats.second->widen(formats.second_of(piece), out + formats.first->width(), width);
    out += piece.count * width;
  }
  const RowsView keys{wide, width, count, layout.key_width};
  const RowsView values{wide + layout.value_offset, width, count, layout.value_width};
  block.pieces.assign(1, {keys, values});
  block.next = next;
  return block;
}
// [widened]

}  // namespace

const RowBlock& read_block(const RowFormats& formats, const RowLayout& layout,
                           std::span<const StoredRows> pieces, const NextRows& next) {
  const auto in_integers = [&](auto& block) -> const RowBlock& {
    block.read(formats, pieces);
    return block;
  };
  thread_local HeadCodes heads;
  thread_local LatentCodes latents;
  if (formats.first->in_integers() == nullptr) return widened(formats, layout, pieces, next);
  return formats.second->in_integers() == nullptr ? in_integers(latents) : in_integers(heads);
}

}  // namespace kv
