#pragma once
/// @file
/// A few rows times a matrix. Every weight is read once, 16 bytes at a time, a warp side by side along the inputs, and
/// used for up to eight rows of x, which stay in the first cache. Bound by the weights' bytes, so what counts is how many
/// of them are on their way at a time: for one row each lane asks for eight pieces before it uses the first.
/// The order of a sum depends on its length alone: lane by lane, then in a tree over the lanes.
#include "chapters/06_cuda_kernels/model/linear.hpp"
#include "chapters/06_cuda_kernels/model/reduce.hpp"

namespace kv::cuda {
namespace gemv {

inline constexpr int threads = 128, warps = threads / warp_threads;
inline constexpr int outputs_of_warp = 2;  // that use a number of x when it is there
inline constexpr int outputs_of_block = warps * outputs_of_warp;

/// Weights in 16 bytes.
template <class W>
inline constexpr int piece = 16 / sizeof(W);

/// One of them. They are widened when they are used: all at once would fill the registers.
template <class W>
__device__ float weight(const uint4& bytes, int v) {
  const unsigned words[4]{bytes.x, bytes.y, bytes.z, bytes.w};
  if constexpr (sizeof(W) == sizeof(float)) return __uint_as_float(words[v]);
  return __uint_as_float(v % 2 ? words[v / 2] & 0xffff0000u : words[v / 2] << 16);
}

/// Two rows of W and N rows of x, as a lane sees them.
template <class W, class X, int N>
struct Factors {
  const W* weights[outputs_of_warp];
  const X* x[N];
  float sums[outputs_of_warp * N] = {};

  // [advance]
  /// `Ahead` pieces of each row of W, `Step` inputs apart, from input i on; all of them exist.
  template <int Ahead, int Step>
  __device__ void load(uint4 (&pieces)[Ahead][outputs_of_warp], int i) const {
#pragma unroll
    for (int a = 0; a < Ahead; ++a)
#pragma unroll
      for (int o = 0; o < outputs_of_warp; ++o)
        pieces[a][o] = *reinterpret_cast<const uint4*>(weights[o] + i + a * Step);
  }
  template <int Ahead, int Step>
  __device__ void use(const uint4 (&pieces)[Ahead][outputs_of_warp], int i) {
#pragma unroll
    for (int a = 0; a < Ahead; ++a)
#pragma unroll
      for (int n = 0; n < N; ++n)
#pragma unroll
        for (int v = 0; v < piece<W>; v += 4) {
          const float4 four = load_4(x[n] + i + a * Step + v);
          const float values[4]{four.x, four.y, four.z, four.w};
#pragma unroll
          for (int u = 0; u < 4; ++u)
#pragma unroll
            for (int o = 0; o < outputs_of_warp; ++o)
              sums[o * N + n] += weight<W>(pieces[a][o], v + u) * values[u];
        }
  }
  // [advance]
  template <int Ahead, int Step>
  __device__ void add(int i) {
    uint4 pieces[Ahead][outputs_of_warp];
    load<Ahead, Step>(pieces, i);
    use<Ahead, Step>(pieces, i);
  }

  /// One piece, of which some inputs may be missing, or whose numbers of x do not lie at a multiple of 16 bytes.
  __device__ void add_carefully(int i, int columns) {
    for (int v = 0; v < piece<W> && i + v < columns; ++v)
#pragma unroll
      for (int n = 0; n < N; ++n) {
        const float value = to_float(x[n][i + v]);
#pragma unroll
        for (int o = 0; o < outputs_of_warp; ++o) sums[o * N + n] += to_float(weights[o][i + v]) * value;
      }
  }
};

/// Rows first_row ... of a group, at most N of them, times a warp's rows of W.
template <int N, class W, class X, class Groups, class Store>
__device__ void multiply(const LinearProblem<W, X, Groups, Store>& p, const LinearPart& part, int first_row, int first_output) {
  constexpr int step = warp_threads * piece<W>, ahead = N == 1 ? 4 : N <= 4 ? 2 : 1;
  const int lane = threadIdx.x % warp_threads;
  Factors<W, X, N> rows;
#pragma unroll
  for (int o = 0; o < outputs_of_warp; ++o) rows.weights[o] = p.weight_row(part, first_output + o);
  bool aligned = true;
#pragma unroll
  for (int n = 0; n < N; ++n) {
    rows.x[n] = p.x_row(part, first_row + n);
    aligned = aligned && fours_are_aligned(rows.x[n]);
  }
  const int columns = p.weights.columns, whole = aligned ? columns : 0;
  int i = lane * piece<W>;
  // [early]
  // Weights never change: the first of them are asked for while the grid that makes x still runs.
  uint4 first[ahead][outputs_of_warp];
  const bool begun = i + (ahead - 1) * step + piece<W> <= whole;
  if (begun) rows.template load<ahead, step>(first, i);
  wait_for_last_grid();
  if (begun) {
    rows.template use<ahead, step>(first, i);
    i += ahead * step;
  }
  // [early]
  for (; i + (ahead - 1) * step + piece<W> <= whole; i += ahead * step) rows.template add<ahead, step>(i);
  for (; i + piece<W> <= whole; i += step) rows.template add<1, step>(i);
  for (; i < columns; i += step) rows.add_carefully(i, columns);
  const float sum = scatter_sums(rows.sums);
  const float next = __shfl_down_sync(all_lanes, sum, warp_threads / outputs_of_warp);  // the other output, of the same row
  constexpr int lanes = warp_threads / (outputs_of_warp * N);                          // that have the same sum
  if (lane % lanes == 0 && lane / lanes < N) p.store(part, first_row + lane / lanes, first_output, sum, next);
}

// [gemv]
/// Eight rows at a time; an expert that few tokens have chosen does not pay for eight.
template <class W, class X, class Groups, class Store>
__global__ void __launch_bounds__(threads) kernel(const LinearProblem<W, X, Groups, Store> p) {
  let_next_grid_begin();
  if constexpr (Groups::computed) wait_for_last_grid();
  const LinearPart part = p.groups.part(blockIdx.y);
  const int first_output = (blockIdx.x * warps + threadIdx.x / warp_threads) * outputs_of_warp;
  if (first_output >= p.outputs) return;
  for (int first = 0; first < part.rows; first += few_rows) {
    const int rows = part.rows - first;
    if (rows == 1)
      multiply<1>(p, part, first, first_output);
    else if (rows == 2)
      multiply<2>(p, part, first, first_output);
    else if (rows <= 4)
      multiply<4>(p, part, first, first_output);
    else
      multiply<few_rows>(p, part, first, first_output);
  }
}
// [gemv]

template <class W, class X, class Groups, class Store>
void queue(const LinearProblem<W, X, Groups, Store>& p, int groups, cudaStream_t stream) {
  const dim3 grid((p.outputs + outputs_of_block - 1) / outputs_of_block, groups);
  launch({.grid = grid, .block = threads, .stream = stream, .early = true}, kernel<W, X, Groups, Store>, p);
}

}  // namespace gemv
}  // namespace kv::cuda
