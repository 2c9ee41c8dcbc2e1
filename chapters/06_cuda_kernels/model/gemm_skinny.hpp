#pragma once
/// @file
/// 9 to 64 rows times a matrix of bf16: a decode step of a batch. Bound by the weights' bytes, as gemv is, but with too
/// many products for ordinary arithmetic. So: tensor cores, with weights that go from memory straight into their operands.
///
/// A block makes 16 outputs of all rows. Its eight warps share out the inputs, 32 at a time, and add up at the end, so that
/// 2,048 outputs are 128 blocks. The order of a sum depends on its length alone.
///
/// mma.sync wants from a lane, of a row of W, two inputs here and two inputs there. But a sum over inputs may be taken in
/// any order, if W and x agree on it: lane 4g+c takes inputs 8c ... 8c+7, which lie side by side, and calls them what the
/// instruction wants to hear. One load of 16 bytes is then an operand of two instructions, and no shared memory is needed.
/// x is split into two bf16 numbers, as in gemm_bf16.hpp.
#include "chapters/06_cuda_kernels/ladder/warp.hpp"
#include "chapters/06_cuda_kernels/model/high_low.hpp"
#include "chapters/06_cuda_kernels/model/linear.hpp"
#include "common/cuda/tensor_core.hpp"

namespace kv::cuda {
namespace gemm_skinny {

inline constexpr int warps = 8, threads = warps * warp_threads;
inline constexpr int tile = 16;      // outputs of a block
inline constexpr int depth = 32;     // inputs of a slice: eight of each lane of four
inline constexpr int ahead = 2;      // slices whose weights are on their way at a time
inline constexpr int rows_each = 8;  // of x in one instruction

/// Inputs i ... i+7 of a row; zeros beyond its end, as in W.
template <class X>
__device__ void load_inputs(const X* row, int i, int columns, float (&x)[8]) {
  if (i + 8 <= columns && fours_are_aligned(row)) {
    const float4 first = load_4(row + i), second = load_4(row + i + 4);
    x[0] = first.x, x[1] = first.y, x[2] = first.z, x[3] = first.w;
    x[4] = second.x, x[5] = second.y, x[6] = second.z, x[7] = second.w;
  } else {
#pragma unroll
    for (int v = 0; v < 8; ++v) x[v] = i + v < columns ? to_float(row[i + v]) : 0.0f;
  }
}

// [slice]
/// A slice of inputs: 16 outputs, of which this lane has 16 bytes of rows g and g+8, times all rows
/// of x.
/// @param i where the lane's eight inputs begin: four for the first instruction, four for the
/// second
template <int Tiles, class X>
__device__ void add_slice(const uint4 (&w)[2], const X* const (&x)[Tiles], int tiles, int i,
                          int columns, float (&sums)[Tiles][4]) {
  const std::uint32_t first[4]{w[0].x, w[1].x, w[0].y, w[1].y},
      second[4]{w[0].z, w[1].z, w[0].w, w[1].w};
  float inputs[Tiles][8];
#pragma unroll
  // Asked for together: one after the other they would take their time.
  for (int t = 0; t < Tiles; ++t)
    if (t < tiles) load_inputs(x[t], i, columns, inputs[t]);
#pragma unroll
  for (int t = 0; t < Tiles; ++t) {
    if (t >= tiles) continue;
    HighLow pair[4];
#pragma unroll
    for (int v = 0; v < 4; ++v) pair[v] = split(inputs[t][2 * v], inputs[t][2 * v + 1]);
    mma_m16n8k16(sums[t], first, {pair[0].low, pair[1].low});  // the small ones first
    mma_m16n8k16(sums[t], second, {pair[2].low, pair[3].low});
    mma_m16n8k16(sums[t], first, {pair[0].high, pair[1].high});
    mma_m16n8k16(sums[t], second, {pair[2].high, pair[3].high});
  }
}
// [slice]

/// @tparam Tiles of eight rows; a group may have fewer
template <int Tiles, class X, class Groups, class Store>
__global__ void __launch_bounds__(threads) kernel(const LinearProblem<bf16, X, Groups, Store> p) {
  __shared__ float sums_of_warp[warps][Tiles * rows_each][tile];
  let_next_grid_begin();
  wait_for_last_grid();
  const LinearPart part = p.groups.part(blockIdx.y);
  if (part.rows == 0) return;
  const int warp = threadIdx.x / warp_threads, lane = threadIdx.x % warp_threads, g = lane / 4, c = lane % 4;
  const int first_output = blockIdx.x * tile, tiles = (part.rows + rows_each - 1) / rows_each;
  const bf16* weights[2];  // rows g and g+8 of the tile, the last one again where there are no more
#pragma unroll
  for (int i = 0; i < 2; ++i) weights[i] = p.weight_row(part, first_output + g + 8 * i);
  const X* x[Tiles];
#pragma unroll
  for (int t = 0; t < Tiles; ++t) x[t] = p.x_row(part, t * rows_each + g);

  float sums[Tiles][4] = {};
  constexpr int step = warps * depth;  // to the warp's next slice
  for (int i = warp * depth + 8 * c; i - 8 * c < p.weights.stride; i += ahead * step) {
    uint4 w[ahead][2];
#pragma unroll
    for (int a = 0; a < ahead; ++a)
#pragma unroll
      for (int r = 0; r < 2; ++r)
        w[a][r] = i + a * step < p.weights.stride ? *reinterpret_cast<const uint4*>(weights[r] + i + a * step) : uint4{0, 0, 0, 0};
#pragma unroll
    for (int a = 0; a < ahead; ++a) add_slice<Tiles>(w[a], x, tiles, i + a * step, p.weights.columns, sums);
  }

#pragma unroll
  for (int t = 0; t < Tiles; ++t)
#pragma unroll
    for (int r = 0; r < 4; ++r) sums_of_warp[warp][t * rows_each + 2 * c + r % 2][g + r / 2 * 8] = sums[t][r];
  __syncthreads();
  for (int e = threadIdx.x; e < part.rows * tile / 2; e += threads) {
    const int n = e / (tile / 2), o = e % (tile / 2) * 2;
    float first = 0.0f, second = 0.0f;
    for (int w = 0; w < warps; ++w) first += sums_of_warp[w][n][o], second += sums_of_warp[w][n][o + 1];
    p.store(part, n, first_output + o, first, second);
  }
}

template <int Tiles, class X, class Groups, class Store>
void launch_tiles(const LinearProblem<bf16, X, Groups, Store>& p, int groups, cudaStream_t stream) {
  launch({.grid = dim3((p.outputs + tile - 1) / tile, groups), .block = threads, .stream = stream, .early = true}, kernel<Tiles, X, Groups, Store>, p);
}

inline constexpr int most_rows = 64;

template <class X, class Groups, class Store>
void queue(const LinearProblem<bf16, X, Groups, Store>& p, int groups, int rows, cudaStream_t stream) {
  if (rows <= 16) return launch_tiles<2>(p, groups, stream);
  if (rows <= 32) return launch_tiles<4>(p, groups, stream);
  launch_tiles<most_rows / rows_each>(p, groups, stream);
}

}  // namespace gemm_skinny
}  // namespace kv::cuda
