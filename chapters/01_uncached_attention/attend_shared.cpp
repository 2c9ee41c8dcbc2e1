#include "chapters/01_uncached_attention/attend_shared.hpp"

#include <vector>

#include "common/tensor/attention_sums.hpp"
#include "common/tensor/memory.hpp"
#include "common/tensor/softmax.hpp"

namespace kv {
namespace {

constexpr index_t block_rows = 128;

RowsView slice(const RowsView& rows, index_t first, index_t count) {
  return {rows.data + first * rows.stride, rows.stride, count, rows.width};
}

/// Queries first ... first+count-1 see the same rows of a block.
struct Peers {
  index_t first, count, rows;
};

/// The queries from i on that see as many rows of the block as query i does.
Peers peers_of(index_t i, std::span<const index_t> visible, index_t block) {
  const auto seen = [&](index_t q) { return std::min(visible[q], block + block_rows) - block; };
  index_t end = i + 1;
  while (end < visible.size() && seen(end) == seen(i)) ++end;
  return {i, end - i, seen(i)};
}

}  // namespace

// [attend_shared]
void attend_shared(const RowsView& queries, std::span<const index_t> visible, const SharedRows& rows, float* out) {
  const index_t W = rows.values.width;
  thread_local Scratch scratch;
  thread_local std::vector<RunningSoftmax> softmax;
  float* weights = scratch.floats(queries.count * block_rows);
  softmax.assign(queries.count, {});
  std::fill_n(out, queries.count * W, 0.0f);

  index_t first_seeing = 0;  // the first query that sees anything of the block
  for (index_t block = 0; block < visible.back(); block += block_rows) {
    while (visible[first_seeing] <= block) ++first_seeing;
    for (index_t i = first_seeing; i < queries.count;) {
      const auto [first, count, seen] = peers_of(i, visible, block);
      dot_rows(slice(queries, first, count), slice(rows.keys, block, seen), weights, block_rows);
      for (index_t q = 0; q < count; ++q) {
        const float factor = softmax[first + q].next({weights + q * block_rows, seen});
        if (factor != 1.0f) scale({out + (first + q) * W, W}, factor);
      }
      add_weighted_rows({weights, block_rows, count, seen}, slice(rows.values, block, seen), out + first * W, W);
      i = first + count;
    }
  }
  for (index_t q = 0; q < queries.count; ++q) scale({out + q * W, W}, 1.0f / softmax[q].sum());
}
// [attend_shared]

}  // namespace kv
