// An exercise, in place of chapters/01_uncached_attention/attend_shared.cpp: see exercises.md
// Tests: 01_uncached_attention_test
#include "chapters/01_uncached_attention/attend_shared.hpp"

#include <vector>

#include "common/tensor/attention_sums.hpp"
#include "common/tensor/memory.hpp"
#include "common/tensor/softmax.hpp"

namespace kv {
namespace {

/// Rows first ... end-1.
struct Range {
  index_t first, end;
  bool operator==(const Range&) const = default;
  bool empty() const { return first >= end; }
};

Range sinks(const Visible& visible) { return {0, visible.sinks}; }
Range window(const Visible& visible) { return {visible.first, visible.end}; }

/// What of a range lies in the block.
Range within(const Range& range, index_t block) {
  return {std::max(range.first, block), std::min(range.end, block + block_rows)};
}

/// What was summed so far, for every query.
struct Sums {
  List<RunningSoftmax> softmax;
  Scratch scratch;
  float* out;
  index_t width;
};

/// Queries that see the same rows of a block go through it together, so that each row serves all of
/// them.
/// @param range_of which of its rows a query may see here
template <class RangeOf>
void attend_block(const RowsView& queries, std::span<const Visible> visible, RangeOf range_of,
                  const RowSource& rows, index_t g, index_t block, Sums& sums) {
  // --- yours ---
  // queries (Q,D), scaled. Of rows block ... block+127 each query sees within(range_of(visible[q]), block): give its
  // scores to sums.softmax[q].next(), which makes weights of them and says by what the sum so far must be multiplied;
  // then add its weighted values to row q of sums.out (Q,W).
  throw std::logic_error("exercise 01 attend_shared: a block of rows is yours to sum");
  // --- end ---
}

}  // namespace

void attend_shared(const SharedQueries& shared, const RowSource& rows, index_t g, float* out) {
  const auto& [queries, sink_queries, visible] = shared;
  thread_local Sums sums;
  sums.softmax.assign(queries.count, {});
  sums.out = out;
  sums.width = rows.value_width();
  std::fill_n(out, queries.count * sums.width, 0.0f);

  for (index_t block = 0; block < visible.back().sinks; block += block_rows)
    attend_block(sink_queries, visible, sinks, rows, g, block, sums);
  const index_t first_block = visible.front().first / block_rows * block_rows;
  for (index_t block = first_block; block < visible.back().end; block += block_rows)
    attend_block(queries, visible, window, rows, g, block, sums);
  for (index_t q = 0; q < queries.count; ++q)
    scale({out + q * sums.width, sums.width}, 1.0f / sums.softmax[q].sum());
}

}  // namespace kv
