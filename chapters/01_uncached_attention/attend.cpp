#include "chapters/01_uncached_attention/attend.hpp"

#include <cmath>

#include "chapters/01_uncached_attention/attend_shared.hpp"
#include "common/tensor/attention_sums.hpp"
#include "common/tensor/memory.hpp"
#include "common/tensor/parallel.hpp"

namespace kv {
namespace {

void require_fit(const Tensor<3>& queries, const Tensor<3>& keys, const Tensor<3>& values, index_t S) {
  const index_t T = queries.shape(0), D = queries.shape(2);
  const index_t C = keys.shape(0), G = keys.shape(1), W = values.shape(2);
  require_shape("attend: keys (C,G,D)", keys, {C, G, D});
  require_shape("attend: values (C,G,W)", values, {C, G, W});
  if (T > S || S > C)
    throw std::out_of_range("attend: needs T <= S <= C, found T = " + std::to_string(T) + ", S = " +
                            std::to_string(S) + ", C = " + std::to_string(C));
}

void require_groups(index_t H, index_t G) {
  if (G == 0 || H % G != 0)
    throw ShapeError("attend: " + std::to_string(H) + " query heads cannot share " + std::to_string(G) +
                     " key/value heads evenly");
}

/// Some query heads of some tokens, all of which share key/value head g.
struct Tile {
  index_t first_token, tokens, first_head, heads, g;
  index_t queries() const { return tokens * heads; }
};

/// Queries that go through the stored rows together: enough to make a row worth fetching.
constexpr index_t tile_queries = 32;

/// All (T,H) queries cut into work for threads. A piece of work is a group's heads of a few tokens; of several groups where
/// tokens are few, as their rows lie side by side; of a part of a group where threads would have nothing to do.
struct Work {
  index_t T, group, G;  // group: query heads that share a head
  index_t tokens = std::max<index_t>(1, std::min(T, tile_queries / group));
  index_t token_tiles = (T + tokens - 1) / tokens;
  index_t groups = std::max<index_t>(1, std::min(tile_queries / (group * tokens), token_tiles * G / threads()));
  index_t group_tiles = (G + groups - 1) / groups;
  index_t parts = T * G < threads() ? std::min(group, threads()) : 1;

  index_t count() const { return token_tiles * group_tiles * parts; }
  /// Calls visit(tile) for each key/value head of piece i.
  template <class Visit>
  void for_each_tile(index_t i, Visit visit) const {
    const index_t part = i % parts, n = i / parts % group_tiles, t = i / parts / group_tiles * tokens;
    const index_t first = group * part / parts, end = group * (part + 1) / parts;
    for (index_t g = G * n / group_tiles; g < G * (n + 1) / group_tiles; ++g)
      visit(Tile{t, std::min(tokens, T - t), g * group + first, end - first, g});
  }
};

/// The tile's queries behind each other, head by head of token by token, scaled.
RowsView gather(const Tensor<3>& queries, const Tile& tile, float scale, float* out) {
  const index_t D = queries.shape(2);
  float* next = out;
  for (index_t t = tile.first_token; t < tile.first_token + tile.tokens; ++t)
    for (index_t h = tile.first_head; h < tile.first_head + tile.heads; ++h)
      next = std::ranges::copy(row(queries, t, h), next).out;
  kv::scale({out, tile.queries() * D}, scale);
  return {out, D, tile.queries(), D};
}

void scatter(const float* mixed, const Tile& tile, Tensor<3>& output) {
  for (index_t t = tile.first_token; t < tile.first_token + tile.tokens; ++t)
    for (index_t h = tile.first_head; h < tile.first_head + tile.heads; ++h, mixed += output.shape(2))
      std::copy_n(mixed, output.shape(2), row(output, t, h).begin());
}

/// What each of the tile's queries sees of the rows that its head holds.
void add_visible(const Tile& tile, const CausalMask& mask, index_t held, List<Visible>& visible) {
  for (index_t t = tile.first_token; t < tile.first_token + tile.tokens; ++t) {
    const Visible seen = mask(t);
    visible.insert(visible.end(), tile.heads, {seen.first, std::min(seen.end, held), seen.sinks});
  }
}

/// The queries of a piece, a tile for each key/value head, with room for what they mix. Good until this thread asks again.
std::span<const SharedQueries> shared_queries(const Work& work, index_t piece, const Tensor<3>& queries,
                                              const Tensor<3>& sink_queries, const RowSource& rows, const CausalMask& mask,
                                              float scale) {
  thread_local Scratch scratch;
  thread_local List<Visible> visible;
  thread_local List<SharedQueries> shared;
  visible.clear();
  shared.clear();
  work.for_each_tile(piece, [&](const Tile& tile) { add_visible(tile, mask, rows.count(tile.g), visible); });
  const index_t D = queries.shape(2), W = rows.value_width();
  float* floats = scratch.floats(visible.size() * (2 * D + W));
  const Visible* seen = visible.data();
  work.for_each_tile(piece, [&](const Tile& tile) {
    const index_t Q = tile.queries();
    const RowsView own = gather(queries, tile, scale, floats);
    const RowsView at_sinks = mask.sinks > 0 ? gather(sink_queries, tile, scale, floats + Q * D) : own;
    shared.push_back({own, at_sinks, {seen, Q}, tile.g, floats + 2 * Q * D});
    seen += Q;
    floats += Q * (2 * D + W);
  });
  return shared;
}

}  // namespace

Tensor<3> attend(const Tensor<3>& queries, const Tensor<3>& keys, const Tensor<3>& values, index_t S, index_t window) {
  require_fit(queries, keys, values, S);
  const float scale = 1.0f / std::sqrt(static_cast<float>(queries.shape(2)));
  return attend(queries, ContiguousRows(keys, values, S), {.position = S - queries.shape(0), .window = window}, scale);
}

Tensor<3> attend(const Tensor<3>& queries, const RowSource& rows, const CausalMask& mask, float scale) {
  return attend(queries, queries, rows, mask, scale);
}

// [attend]
Tensor<3> attend(const Tensor<3>& queries, const Tensor<3>& sink_queries, const RowSource& rows,
                 const CausalMask& mask, float scale) {
  const index_t T = queries.shape(0), H = queries.shape(1), G = rows.heads();
  require_groups(H, G);
  Tensor<3> output = empty<3>({T, H, rows.value_width()});
  const Work work{T, H / G, G};
  parallel_for(work.count(), 1, [&](index_t first, index_t last) {
    for (index_t i = first; i < last; ++i) {
      const auto shared = shared_queries(work, i, queries, sink_queries, rows, mask, scale);
      attend_shared(shared, rows);
      const SharedQueries* next = shared.data();
      work.for_each_tile(i, [&](const Tile& tile) { scatter((next++)->out, tile, output); });
    }
  });
  return output;
}
// [attend]

}  // namespace kv
