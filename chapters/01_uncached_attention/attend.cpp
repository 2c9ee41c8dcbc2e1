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

/// Some heads of some tokens: queries that share key/value head g.
struct Tile {
  index_t first_token, tokens, first_head, heads, g;
  index_t queries() const { return tokens * heads; }
};

/// Queries that go through the stored rows together: enough to make a row worth fetching.
constexpr index_t tile_queries = 32;

/// All (T,H) queries cut into tiles: a group's heads of a few tokens, or only some of the heads where threads would have
/// nothing to do.
struct Tiles {
  index_t T, group, G;  // group: query heads that share a head
  index_t pieces = T * G < threads() ? std::min(group, threads()) : 1;
  index_t tokens_at_once = std::max<index_t>(1, tile_queries / group);

  index_t count() const { return (T + tokens_at_once - 1) / tokens_at_once * G * pieces; }
  Tile operator[](index_t i) const {
    const index_t piece = i % pieces, g = i / pieces % G, t = i / pieces / G * tokens_at_once;
    const index_t first = group * piece / pieces, end = group * (piece + 1) / pieces;
    return {t, std::min(tokens_at_once, T - t), g * group + first, end - first, g};
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
std::span<const Visible> visible(const Tile& tile, const CausalMask& mask, index_t held) {
  thread_local List<Visible> result;
  result.clear();
  for (index_t t = tile.first_token; t < tile.first_token + tile.tokens; ++t) {
    const Visible seen = mask(t);
    result.insert(result.end(), tile.heads, {seen.first, std::min(seen.end, held), seen.sinks});
  }
  return result;
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
  const index_t T = queries.shape(0), H = queries.shape(1), D = queries.shape(2),
                W = rows.value_width();
  require_groups(H, rows.heads());
  Tensor<3> output = empty<3>({T, H, W});
  const Tiles tiles{T, H / rows.heads(), rows.heads()};
  parallel_for(tiles.count(), 1, [&](index_t first, index_t last) {
    thread_local Scratch scratch;
    for (index_t i = first; i < last; ++i) {
      const Tile tile = tiles[i];
      const index_t Q = tile.queries();
      float* const scaled = scratch.floats(Q * (2 * D + W));
      const RowsView own = gather(queries, tile, scale, scaled);
      const RowsView at_sinks =
          mask.sinks > 0 ? gather(sink_queries, tile, scale, scaled + Q * D) : own;
      float* const mixed = scaled + 2 * Q * D;
      attend_shared({own, at_sinks, visible(tile, mask, rows.count(tile.g))}, rows, tile.g, mixed);
      scatter(mixed, tile, output);
    }
  });
  return output;
}
// [attend]

}  // namespace kv
