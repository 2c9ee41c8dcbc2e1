// An exercise, in place of chapters/01_uncached_attention/attend_shared.cpp: see exercises.md
// Tests: 01_uncached_attention_test 01_row_source_test
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

/// Queries that see the same rows of a block go through it together, so that each row serves all of
/// them.
/// @param range_of which of its rows a query may see here  @param sums (Q), of the blocks before
template <class RangeOf>
void attend_block(const RowsView& queries, const SharedQueries& head, RangeOf range_of,
                  const RowSource& rows, index_t block, RunningSoftmax* sums) {
  // --- yours ---
  // queries (Q,D), scaled. Of rows block ... block+127 each query sees within(range_of(head.visible[q]), block): give its
  // scores to sums[q].next(), which makes weights of them and says by what the sum so far must be multiplied; then add
  // its weighted values to row q of head.out (Q,W). A head may have no row in this block.
  throw std::logic_error("exercise 01 attend_shared: a block of rows is yours to sum");
  // --- end ---
}

/// All heads' rows of a range, from the beginning of a block on.
template <class RangeOf>
Range blocks_of(std::span<const SharedQueries> heads, RangeOf range_of) {
  Range all{no_window, 0};
  for (const SharedQueries& head : heads) {
    all.first = std::min(all.first, range_of(head.visible.front()).first / block_rows * block_rows);
    all.end = std::max(all.end, range_of(head.visible.back()).end);
  }
  return all;
}

}  // namespace

void attend_shared(std::span<const SharedQueries> heads, const RowSource& rows) {
  const index_t W = rows.value_width();
  thread_local List<RunningSoftmax> all_sums;
  all_sums.clear();
  for (const SharedQueries& head : heads) {
    all_sums.insert(all_sums.end(), head.queries.count, {});
    std::fill_n(head.out, head.queries.count * W, 0.0f);
  }
  const auto for_each_head = [&](auto visit) {
    RunningSoftmax* sums = all_sums.data();
    for (const SharedQueries& head : heads) visit(head, sums), sums += head.queries.count;
  };

  const auto [first_sink, end_of_sinks] = blocks_of(heads, sinks);
  for (index_t block = first_sink; block < end_of_sinks; block += block_rows)
    for_each_head([&](const SharedQueries& head, RunningSoftmax* sums) {
      attend_block(head.sink_queries, head, sinks, rows, block, sums);
    });
  const auto [first, end] = blocks_of(heads, window);
  for (index_t block = first; block < end; block += block_rows)
    for_each_head([&](const SharedQueries& head, RunningSoftmax* sums) {
      attend_block(head.queries, head, window, rows, block, sums);
    });

  for_each_head([&](const SharedQueries& head, const RunningSoftmax* sums) {
    for (index_t q = 0; q < head.queries.count; ++q)
      scale({head.out + q * W, W}, 1.0f / sums[q].sum());
  });
}

}  // namespace kv
