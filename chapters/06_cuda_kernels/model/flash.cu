#include "chapters/06_cuda_kernels/model/flash.hpp"

#include <stdexcept>

#include "chapters/06_cuda_kernels/ladder/online_softmax.hpp"
#include "chapters/06_cuda_kernels/ladder/warp.hpp"
#include "chapters/06_cuda_kernels/model/high_low.hpp"
#include "common/cuda/tensor_core.hpp"

namespace kv::cuda {
namespace {

constexpr int threads = 128, warps = threads / warp_threads;
constexpr int rows_of_warp = query_tile_rows / warps;  // 16: the height of a tensor core's tile
constexpr int tokens = 32;                             // of a tile of keys and values
constexpr int result_width = 8;                        // columns of a tensor core's result

/// Rows of f32 in shared memory as two matrices of bf16, high + low.
template <int Rows, int Width>
struct SplitRows {
  static constexpr int pitch = Width + 8;  // the eight rows that ldmatrix reads at a time lie in different banks
  bf16 high[Rows * pitch], low[Rows * pitch];
};

/// A block's shared memory.
template <int D, int W>
struct Tiles {
  SplitRows<query_tile_rows, D> queries;
  SplitRows<tokens, D> keys;
  SplitRows<tokens, W> values;
};

/// Copies `count` rows, the i-th from row(i); zeros below them.
template <int Rows, int Width, class Row>
__device__ void load_split(SplitRows<Rows, Width>& to, int count, const Row& row) {
  for (int e = threadIdx.x; e < Rows * Width / 2; e += threads) {
    const int i = e / (Width / 2), column = e % (Width / 2) * 2, at = i * SplitRows<Rows, Width>::pitch + column;
    const float a = i < count ? to_float(row(i)[column]) : 0.0f, b = i < count ? to_float(row(i)[column + 1]) : 0.0f;
    const HighLow two = split(a, b);
    *reinterpret_cast<std::uint32_t*>(to.high + at) = two.high;
    *reinterpret_cast<std::uint32_t*>(to.low + at) = two.low;
  }
}

/// sums += (high + low)(high + low), but for low*low, which is below f32's own rounding of the sum.
__device__ void multiply(float (&sums)[4], const std::uint32_t (&a_high)[4], const std::uint32_t (&a_low)[4],
                         const std::uint32_t (&b_high)[2], const std::uint32_t (&b_low)[2]) {
  mma_m16n8k16(sums, a_low, b_high);  // the small ones first
  mma_m16n8k16(sums, a_high, b_low);
  mma_m16n8k16(sums, a_high, b_high);
}

/// Scores of a warp's 16 rows and 32 tokens; then their weights.
using Scores = float[tokens / result_width][4];

// [scores]
template <int D, int W>
__device__ void make_scores(const Tiles<D, W>& tiles, int warp, int lane, Scores& scores) {
  constexpr int pitch = D + 8;
#pragma unroll
  for (int d = 0; d < D; d += 16) {
    std::uint32_t q_high[4], q_low[4];
    ldmatrix_x4<false>(q_high, left<pitch>(tiles.queries.high + warp * rows_of_warp * pitch + d, lane));
    ldmatrix_x4<false>(q_low, left<pitch>(tiles.queries.low + warp * rows_of_warp * pitch + d, lane));
#pragma unroll
    for (int s = 0; s < tokens; s += 16) {
      std::uint32_t k_high[4], k_low[4];
      ldmatrix_x4<false>(k_high, right_columns<pitch>(tiles.keys.high + s * pitch + d, lane));
      ldmatrix_x4<false>(k_low, right_columns<pitch>(tiles.keys.low + s * pitch + d, lane));
#pragma unroll
      for (int half = 0; half < 2; ++half)
        multiply(scores[s / result_width + half], q_high, q_low, {k_high[2 * half], k_high[2 * half + 1]},
                 {k_low[2 * half], k_low[2 * half + 1]});
    }
  }
}
// [scores]

// [weigh]
/// Scores become weights. A lane has two rows, g and g + 8 (r/2 of a result's register r), and columns 2p, 2p + 1 (r%2) of
/// each eight; four lanes share a row.
/// @param visible tokens of the tile that the lane's two rows may see, from its first on
__device__ void weigh(Scores& scores, const int (&visible)[2], float scale, int lane, OnlineSoftmax (&softmax)[2], float (&factors)[2]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float top = -INFINITY;
#pragma unroll
    for (int j = 0; j < tokens / result_width; ++j)
#pragma unroll
      for (int r = 2 * half; r < 2 * half + 2; ++r) {
        const int token = j * result_width + lane % 4 * 2 + r % 2;
        scores[j][r] = token < visible[half] ? scores[j][r] * scale : -INFINITY;
        top = fmaxf(top, scores[j][r]);
      }
    top = quad_max(top);
    const bool any = top > -INFINITY;  // the four lanes agree
    factors[half] = any ? softmax[half].renew(top) : 1.0f;
    float sum = 0.0f;
#pragma unroll
    for (int j = 0; j < tokens / result_width; ++j)
#pragma unroll
      for (int r = 2 * half; r < 2 * half + 2; ++r) {
        scores[j][r] = any ? softmax[half].weight(scores[j][r]) : 0.0f;
        sum += scores[j][r];
      }
    softmax[half].sum += quad_sum(sum);
  }
}
// [weigh]

// [sum]
/// sums = factors * sums + weights * values. The registers of a result are those of a left factor: nothing moves.
template <int D, int W>
__device__ void add_values(const Tiles<D, W>& tiles, const Scores& weights, const float (&factors)[2], int lane, float (&sums)[W / result_width][4]) {
  constexpr int pitch = W + 8;
#pragma unroll
  for (int j = 0; j < W / result_width; ++j)
#pragma unroll
    for (int r = 0; r < 4; ++r) sums[j][r] *= factors[r / 2];
#pragma unroll
  for (int s = 0; s < tokens; s += 16) {
    std::uint32_t p_high[4], p_low[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float(&eight)[4] = weights[s / result_width + i / 2];
      const HighLow two = split(eight[i % 2 * 2], eight[i % 2 * 2 + 1]);
      p_high[i] = two.high, p_low[i] = two.low;
    }
#pragma unroll
    for (int w = 0; w < W; w += 16) {
      std::uint32_t v_high[4], v_low[4];
      ldmatrix_x4<true>(v_high, right_rows<pitch>(tiles.values.high + s * pitch + w, lane));
      ldmatrix_x4<true>(v_low, right_rows<pitch>(tiles.values.low + s * pitch + w, lane));
#pragma unroll
      for (int half = 0; half < 2; ++half)
        multiply(sums[w / result_width + half], p_high, p_low, {v_high[2 * half], v_high[2 * half + 1]},
                 {v_low[2 * half], v_low[2 * half + 1]});
    }
  }
}
// [sum]

// [flash]
/// A block for each tile of rows and each head.
template <int D, int W, class T>
__global__ void __launch_bounds__(threads) flash_kernel(const Attend<T> p, const QueryTile* query_tiles) {
  Tiles<D, W>& tiles = *dynamic_shared<Tiles<D, W>>();
  const QueryTile tile = query_tiles[blockIdx.x];
  const int h = blockIdx.y, g = h / (p.heads / p.groups);
  const int warp = threadIdx.x / warp_threads, lane = threadIdx.x % warp_threads;
  load_split(tiles.queries, tile.rows, [&](int i) { return p.queries + std::size_t(tile.first_row + i) * p.query_row + h * D; });

  const int rows[2]{warp * rows_of_warp + lane / 4, warp * rows_of_warp + lane / 4 + 8};  // of the tile, this lane's
  OnlineSoftmax softmax[2];
  float sums[W / result_width][4] = {};
  const int end = tile.first_position + tile.rows;  // tokens that the last row sees
  for (int first = 0; first < end; first += tokens) {
    const int count = min(tokens, end - first);
    __syncthreads();  // everybody has left the tile before
    load_split(tiles.keys, count, [&](int s) { return p.keys.row(tile.sequence, first + s) + g * D; });
    load_split(tiles.values, count, [&](int s) { return p.values.row(tile.sequence, first + s) + g * W; });
    __syncthreads();
    Scores scores = {};
    make_scores(tiles, warp, lane, scores);
    // The causal mask: row i stands at first_position + i and sees itself and all before it.
    const int visible[2]{tile.first_position + rows[0] + 1 - first, tile.first_position + rows[1] + 1 - first};
    float factors[2];
    weigh(scores, visible, p.scale, lane, softmax, factors);
    add_values(tiles, scores, factors, lane, sums);
  }

#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if (rows[half] >= tile.rows) continue;
    float* to = p.output + (std::size_t(tile.first_row + rows[half]) * p.heads + h) * W + lane % 4 * 2;
#pragma unroll
    for (int j = 0; j < W / result_width; ++j)
#pragma unroll
      for (int r = 0; r < 2; ++r) to[j * result_width + r] = sums[j][2 * half + r] * softmax[half].normalisation();
  }
}
// [flash]

/// Calls f with the kernel for these widths and its shared memory; false where there is none.
template <class T, class F>
bool with_kernel(int key_width, int value_width, F&& f) {
  const auto serves = [&]<int D, int W>() {
    if (key_width != D || value_width != W) return false;
    f(flash_kernel<D, W, T>, sizeof(Tiles<D, W>));
    return true;
  };
  return serves.template operator()<192, 128>()     // DeepSeek-V2 and V3, expanded
         || serves.template operator()<128, 128>()  // Llama 3, Qwen3, Mixtral
         || serves.template operator()<64, 64>()    // Llama 3.2 1B
         || serves.template operator()<48, 32>()    // the book's own two models
         || serves.template operator()<32, 32>();
}

}  // namespace

bool flash_serves(int key_width, int value_width) {
  return with_kernel<float>(key_width, value_width, [](auto, std::size_t) {});
}

template <class T>
void flash(const Attend<T>& problem, const QueryTiles& tiles, cudaStream_t stream) {
  if (tiles.count == 0) return;
  const bool served = with_kernel<T>(problem.key_width, problem.value_width, [&](auto kernel, std::size_t shared_bytes) {
    launch({dim3(tiles.count, problem.heads), threads, shared_bytes, stream}, kernel, problem, tiles.tiles);
  });
  if (!served)
    throw std::invalid_argument("flash: no kernel for keys of " + std::to_string(problem.key_width) + " and values of " +
                                std::to_string(problem.value_width));
}
template void flash(const Attend<float>&, const QueryTiles&, cudaStream_t);
template void flash(const Attend<bf16>&, const QueryTiles&, cudaStream_t);

}  // namespace kv::cuda
