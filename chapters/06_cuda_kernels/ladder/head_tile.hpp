#pragma once
/// @file
/// What a block of 256 threads does with 16 heads and one page on ordinary f32 arithmetic: rungs 4 and 5. A cached row in
/// shared memory serves 16 heads, so it is loaded for all of them.
#include "chapters/06_cuda_kernels/ladder/bf16x8.hpp"
#include "chapters/06_cuda_kernels/ladder/mla_decode.hpp"
#include "chapters/06_cuda_kernels/ladder/online_softmax.hpp"
#include "chapters/06_cuda_kernels/ladder/warp.hpp"

namespace kv::cuda {

struct HeadTile {
  static constexpr int heads = 16, threads = 256, warps = threads / warp_threads;
  static constexpr int pieces = latent_width / 8;        // of 16 bytes in a row
  static constexpr int pitch = latent_width + 8;         // eight rows' 16 bytes lie in 32 different banks
  static constexpr int score_pitch = heads + 4;          // the same for rows of scores
  static constexpr int heads_of_warp = heads / warps;    // whose softmax a warp looks after
  static constexpr int heads_of_thread = 4;              // that a thread multiplies with one row

  alignas(16) bf16 queries[heads][pitch];
  alignas(16) bf16 page[page_tokens][pitch];  // rows beyond the sequence's end keep what they had
  alignas(16) float weight[page_tokens][score_pitch];  // scores, then exp(score - largest)
  float factor[heads];

  /// Heads that do not exist get zeros: they cost time and change nothing.
  __device__ void load_queries(const MlaDecode& problem, int b, int first_head) {
    for (int k = threadIdx.x; k < heads * pieces; k += threads) {
      const int h = k / pieces, i = k % pieces;
      const bool exists = first_head + h < problem.heads;
      reinterpret_cast<uint4*>(queries[h])[i] = exists ? load_8(problem.query(b, first_head + h), i) : uint4{0, 0, 0, 0};
    }
  }

  __device__ void load_page(const bf16* source, int rows) {
    for (int k = threadIdx.x; k < rows * pieces; k += threads)
      reinterpret_cast<uint4*>(page[k / pieces])[k % pieces] = load_8(source, k);
  }

  // [scores]
  /// A thread has one row and four heads: the lanes of a warp read 32 rows, and the same query.
  __device__ void score_page(int rows, float scale) {
    const int r = threadIdx.x % page_tokens, h = threadIdx.x / page_tokens * heads_of_thread;
    float score[heads_of_thread] = {};
    for (int i = 0; i < pieces; ++i) {
      const uint4 key = load_8(page[r], i);
      for (int j = 0; j < heads_of_thread; ++j) score[j] = dot_8(load_8(queries[h + j], i), key, score[j]);
    }
    for (float& s : score) s = r < rows ? s * scale : -INFINITY;
    *reinterpret_cast<float4*>(&weight[r][h]) = {score[0], score[1], score[2], score[3]};
  }
  // [scores]
  static_assert(threads * heads_of_thread == page_tokens * heads);

  /// Turns scores into weights; a warp looks after two heads, a lane after two tokens of each.
  __device__ void soften(OnlineSoftmax (&softmax)[heads_of_warp]) {
    const int warp = threadIdx.x / warp_threads, lane = threadIdx.x % warp_threads;
    for (int j = 0; j < heads_of_warp; ++j) {
      const int h = warp * heads_of_warp + j;
      float& first = weight[lane][h];
      float& second = weight[lane + warp_threads][h];
      const float renewed = softmax[j].renew(warp_max(fmaxf(first, second)));
      first = softmax[j].weight(first), second = softmax[j].weight(second);
      softmax[j].sum += warp_sum(first + second);
      if (lane == 0) factor[h] = renewed;
    }
  }

  // [values]
  /// A thread has two columns of all heads: one word of a row, 16 times used.
  __device__ void add_values(float (&value)[heads][2], int rows) const {
#pragma unroll
    for (int h = 0; h < heads; ++h) value[h][0] *= factor[h], value[h][1] *= factor[h];
    for (int r = 0; r < rows; ++r) {
      const unsigned two = reinterpret_cast<const unsigned*>(page[r])[threadIdx.x];
#pragma unroll
      for (int h = 0; h < heads; ++h) {
        value[h][0] += weight[r][h] * low_half(two);
        value[h][1] += weight[r][h] * high_half(two);
      }
    }
  }
  // [values]
  static_assert(threads * 2 == value_width);

  // [page]
  /// One page, from the cache to the sums.
  __device__ void attend(const bf16* source, int rows, float scale,
                         OnlineSoftmax (&softmax)[heads_of_warp], float (&value)[heads][2]) {
    load_page(source, rows);
    __syncthreads();
    score_page(rows, scale);
    __syncthreads();
    soften(softmax);
    __syncthreads();
    add_values(value, rows);
    __syncthreads();  // the next page comes to the same place
  }
  // [page]

  /// Divides by the sums of exponentials and hands the heads that exist to the sink.
  template <class Sink>
  __device__ void finish(const OnlineSoftmax (&softmax)[heads_of_warp], const float (&value)[heads][2], int first_head,
                         int all_heads, const Sink& sink) {
    const int warp = threadIdx.x / warp_threads, lane = threadIdx.x % warp_threads;
    if (lane < heads_of_warp) {
      const int h = warp * heads_of_warp + lane;
      factor[h] = softmax[lane].normalisation();
      if (first_head + h < all_heads) sink.store_lse(first_head + h, softmax[lane].log_sum_exp());
    }
    __syncthreads();
#pragma unroll
    for (int h = 0; h < heads; ++h)
      if (first_head + h < all_heads)
        sink.store(first_head + h, threadIdx.x * 2, value[h][0] * factor[h], value[h][1] * factor[h]);
    // No barrier: a next sequence meets two before it writes factors.
  }
};

}  // namespace kv::cuda
