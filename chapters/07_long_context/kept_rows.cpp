#include "chapters/07_long_context/kept_rows.hpp"

namespace kv {

KeptRows::KeptRows(const RowLayout& layout, index_t room) : layout_(layout), heads_(layout.heads) {
  for (Head& head : heads_) {
    head.rows.reserve(room * layout.width());
    head.positions.reserve(room);
  }
}

void KeptRows::append(const Tensor<3>& keys, const Tensor<3>& values, index_t n, index_t position) {
  require_shape("append: keys (N,G,D)", keys, {keys.shape(0), layout_.heads, layout_.key_width});
  require_shape("append: values (N,G,W)", values, {keys.shape(0), layout_.heads, layout_.value_width});
  for (index_t g = 0; g < layout_.heads; ++g) {
    auto& [rows, positions] = heads_[g];
    for (const std::span<const float> part : {row(keys, n, g), row(values, n, g)})
      rows.insert(rows.end(), part.begin(), part.end());
    positions.push_back(position);
  }
}

void KeptRows::append(const Tensor<2>& rows, index_t n, index_t position) {
  require_shape("append: rows (N,R+P)", rows, {rows.shape(0), layout_.width()});
  const std::span<const float> latent = row(rows, n);
  heads_.front().rows.insert(heads_.front().rows.end(), latent.begin(), latent.end());
  heads_.front().positions.push_back(position);
}

// [drop]
void KeptRows::drop(index_t g, std::span<const index_t> indices) {
  auto& [rows, positions] = heads_.at(g);
  if (indices.empty()) return;
  take_out(rows, indices, layout_.width());
  take_out(positions, indices);
  if (rows.size() < rows.capacity() / 2) {
    rows.shrink_to_fit();
    positions.shrink_to_fit();
  }
}
// [drop]

StateBytes KeptRows::bytes() const {
  StateBytes sum;
  for (const auto& [rows, positions] : heads_)
    sum += {.allocated = rows.capacity() * sizeof(float) + positions.capacity() * sizeof(index_t),
            .used = rows.size() * sizeof(float) + positions.size() * sizeof(index_t)};
  return sum;
}

// [block]
const RowBlock& KeptRows::block(index_t g, index_t first, index_t count) const {
  thread_local RowBlock block;
  const index_t width = layout_.width(), rows = heads_[g].positions.size();
  const RowsView keys{heads_[g].rows.data(), width, rows, layout_.key_width};
  const RowsView values{keys.data + layout_.value_offset, width, rows, layout_.value_width};
  block.pieces.assign(1, {slice(keys, first, count), slice(values, first, count)});
  return block;
}
// [block]

}  // namespace kv
