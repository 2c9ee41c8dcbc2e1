#pragma once
/// @file
/// Causal attention of a prompt: 64 rows of a sequence at a time against tiles of 32 cached tokens, on the tensor cores,
/// with a softmax over scores that come in pieces. No score leaves the registers.
///
/// Queries, keys, weights and values are f32, and the tensor cores multiply bf16. Each number is taken as high + low, as
/// in gemm_bf16.hpp, here on both sides: three products, high*high + high*low + low*high, good to 16 bits. Of a cache in bf16
/// `low` is zero, and the same products are made.
#include <span>

#include "chapters/06_cuda_kernels/model/attend.hpp"

namespace kv::cuda {

/// Up to 64 neighbouring rows of one sequence.
struct QueryTile {
  int sequence, first_row, rows, first_position;
};
inline constexpr int query_tile_rows = 64;

/// Tiles of a batch, in device memory; none in a decode step.
struct QueryTiles {
  const QueryTile* tiles;
  int count;
};

/// The new rows of one sequence: its tiles, and the stored tokens that the last of them sees.
struct Prompt {
  int sequence, tokens;
  QueryTiles tiles;
};
/// Of prompts whose tiles lie one behind the other.
inline QueryTiles all_tiles(std::span<const Prompt> prompts) {
  const QueryTiles last = prompts.back().tiles;
  const QueryTile* const first = prompts.front().tiles.tiles;
  return {first, static_cast<int>(last.tiles + last.count - first)};
}

/// Is there a kernel for heads of these widths? The accumulators lie in registers, so the widths are compiled in.
bool flash_serves(int key_width, int value_width);

/// attend() for the same problem, whose rows are covered by the tiles; splits, partial and lse are not used.
/// @throws std::invalid_argument for widths that it does not serve
template <class T>
void flash(const Attend<T>& problem, const QueryTiles& tiles, cudaStream_t stream);

}  // namespace kv::cuda
