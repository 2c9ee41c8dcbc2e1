#include "chapters/01_uncached_attention/attend.hpp"

#include <cmath>

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

/// Some heads of some tokens: queries that share key/value head g.
struct Tile {
  index_t first_token, tokens, first_head, heads, g;
};

/// Queries that go through the stored rows together: enough to make a row worth fetching.
constexpr index_t tile_queries = 32;

/// All (T,H) queries in tiles. A group of heads is only cut in pieces where threads would have nothing to do.
std::vector<Tile> tiles(index_t T, index_t H, index_t G) {
  const index_t group = H / G;
  const index_t pieces = T * G < threads() ? std::min(group, threads()) : 1;
  const index_t tokens_at_once = std::max<index_t>(1, tile_queries / group);
  std::vector<Tile> result;
  for (index_t t = 0; t < T; t += tokens_at_once)
    for (index_t g = 0; g < G; ++g)
      for (index_t piece = 0; piece < pieces; ++piece) {
        const index_t first = group * piece / pieces, end = group * (piece + 1) / pieces;
        result.push_back({t, std::min(tokens_at_once, T - t), g * group + first, end - first, g});
      }
  return result;
}

/// The tile's queries behind each other, head by head of token by token.
void gather(const Tensor<3>& queries, const Tile& tile, float* out) {
  for (index_t t = tile.first_token; t < tile.first_token + tile.tokens; ++t)
    for (index_t h = tile.first_head; h < tile.first_head + tile.heads; ++h, out += queries.shape(2))
      std::ranges::copy(row(queries, t, h), out);
}
void scatter(const float* mixed, const Tile& tile, Tensor<3>& output) {
  for (index_t t = tile.first_token; t < tile.first_token + tile.tokens; ++t)
    for (index_t h = tile.first_head; h < tile.first_head + tile.heads; ++h, mixed += output.shape(2))
      std::copy_n(mixed, output.shape(2), row(output, t, h).begin());
}

}  // namespace

// [attend]
Tensor<3> attend(const Tensor<3>& queries, const Tensor<3>& keys, const Tensor<3>& values, index_t S) {
  require_fit(queries, keys, values, S);
  const float scale = 1.0f / std::sqrt(static_cast<float>(queries.shape(2)));
  const auto rows_of_head = [&](index_t g) { return SharedRows{head_rows(keys, g, S), head_rows(values, g, S)}; };
  return attend(queries, keys.shape(1), rows_of_head, scale);
}

Tensor<3> attend(const Tensor<3>& queries, index_t G, const std::function<SharedRows(index_t g)>& rows, float scale) {
  const index_t T = queries.shape(0), H = queries.shape(1), D = queries.shape(2);
  if (G == 0 || H % G != 0)
    throw ShapeError("attend: " + std::to_string(H) + " query heads cannot share " + std::to_string(G) +
                     " key/value heads evenly");
  const index_t S = rows(0).keys.count, W = rows(0).values.width;
  Tensor<3> output = empty<3>({T, H, W});
  const std::vector<Tile> work = tiles(T, H, G);
  parallel_for(work.size(), 1, [&](index_t first, index_t last) {
    for (index_t i = first; i < last; ++i) {
      const Tile& tile = work[i];
      const index_t Q = tile.tokens * tile.heads;
      thread_local Scratch scratch;
      thread_local std::vector<index_t> visible;
      float* scaled = scratch.floats(Q * (D + W));
      float* mixed = scaled + Q * D;
      gather(queries, tile, scaled);
      kv::scale({scaled, Q * D}, scale);
      visible.clear();
      for (index_t t = tile.first_token; t < tile.first_token + tile.tokens; ++t)
        visible.insert(visible.end(), tile.heads, S - T + t + 1);  // the causal mask: itself and all before it
      attend_shared({scaled, D, Q, D}, visible, rows(tile.g), mixed);
      scatter(mixed, tile, output);
    }
  });
  return output;
}
// [attend]

}  // namespace kv
