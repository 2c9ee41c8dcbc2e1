#pragma once
/// @file
/// What a warpgroup does with 64 heads and one page through wgmma: rungs 7c to 10. Operands lie in shared memory in boxes of
/// 64 x 64, laid out as TMA does it, the weights' box too; or in registers, where results are.
#include "chapters/06_cuda_kernels/ladder/online_softmax.hpp"
#include "chapters/06_cuda_kernels/ladder/page_boxes.hpp"
#include "chapters/06_cuda_kernels/ladder/warp.hpp"
#include "common/cuda/fast_exp2.hpp"

namespace kv::cuda {

inline constexpr int warpgroup_heads = 64, warpgroup_threads = 128;
inline constexpr int half_width = value_width / 2;  ///< columns of the output that one warpgroup holds: 128 registers

/// Where a thread is in its warpgroup. Of a 64 x N result it holds rows g and g+8 of its warp's 16 and, of each eight
/// columns, c and c+1: [4j], [4j+1] in the first row and [4j+2], [4j+3] in the second.
struct WgmmaLane {
  int thread, g, c;
  __device__ WgmmaLane() : thread(threadIdx.x % warpgroup_threads), g(thread % warp_threads / 4), c(thread % 4 * 2) {}
  __device__ int row(int r) const { return thread / warp_threads * 16 + g + r * 8; }
};

using WgmmaScores = float[32];             // (64 heads x 64 tokens) of a warpgroup, a thread's part
using WgmmaWeights = std::uint32_t[4][4];  // the same in bf16, two in a register: A for four times 16 tokens
using WgmmaValues = float[128];            // (64 heads x 256 columns)

// [scores]
/// Adds the products of 64 columns: of a box of queries and a box of a page. Not finished before
/// wgmma_wait.
__device__ inline void score_box(WgmmaScores& score, const bf16* queries, const bf16* keys) {
  const MatrixDescriptor a = wgmma_descriptor(queries), b = wgmma_descriptor(keys);
  wgmma_fence();
#pragma unroll
  for (int k = 0; k < box_width / 16; ++k)
    wgmma_m64n64k16(score, a + 2 * k, b + 2 * k);  // 16 columns are 32 bytes
  wgmma_commit();
}
// [scores]

/// Scales, and gives tokens beyond the sequence's end no weight, whatever was in their rows.
__device__ inline void mask_scores(WgmmaScores& score, const WgmmaLane& lane, int rows, float scale) {
#pragma unroll
  for (float& s : score) s *= scale;  // by itself: the scale may be negative, and then the largest is another one
  if (rows == page_tokens) return;
#pragma unroll
  for (int j = 0; j < 8; ++j)
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (j * 8 + lane.c + i % 2 >= rows) score[j * 4 + i] = -INFINITY;
}

// [soften]
/// A row lies in four lanes of one warp: its maximum takes two shuffles and no barrier.
__device__ inline float row_max(const WgmmaScores& score, int r) {
  float largest = -INFINITY;
#pragma unroll
  for (int j = 0; j < 8; ++j)
    largest = fmaxf(largest, fmaxf(score[j * 4 + r * 2], score[j * 4 + r * 2 + 1]));
  return quad_max(largest);
}

/// Takes in the largest scores of a page, if they are much larger. What the exponentials are taken
/// relative to need not be the largest score exactly: weights up to e^5 are as good as weights up
/// to 1, and the output is seldom rescaled.
/// @return the factors for the output so far, mostly 1
__device__ inline float2 renew(OnlineSoftmax (&softmax)[2], const WgmmaScores& score) {
  constexpr float slack = 5.0f;
  const auto factor = [&](int r) {
    const float largest = row_max(score, r), before = softmax[r].largest;
    return softmax[r].renew(largest > before + slack ? largest : before);
  };
  return {factor(0), factor(1)};
}

/// The same without slack: what the exponentials are taken relative to is the largest score so far.
__device__ inline float2 follow_largest(OnlineSoftmax (&softmax)[2], const WgmmaScores& score) {
  return {softmax[0].renew(row_max(score, 0)), softmax[1].renew(row_max(score, 1))};
}

/// Scores become weights, with one multiplication and one exponential each. The softmax counts this
/// thread's tokens alone until its sums are put together at the end.
__device__ inline void weigh_scores(WgmmaScores& score, OnlineSoftmax (&softmax)[2]) {
  constexpr float log2_e = 1.44269504f;
  const float offset[2] = {softmax[0].largest * log2_e, softmax[1].largest * log2_e};
#pragma unroll
  for (int j = 0; j < 8; ++j)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      float& s = score[j * 4 + i];
      s = fast_exp2(fmaf(s, log2_e, -offset[i / 2]));
      softmax[i / 2].sum += s;
    }
}
// [soften]

// [weights]
/// What a result of wgmma holds is, taken 16 columns at a time and rounded, what it takes as A.
__device__ inline void round_weights(WgmmaWeights& weight, const WgmmaScores& score) {
#pragma unroll
  for (int k = 0; k < 4; ++k)
#pragma unroll
    for (int i = 0; i < 4; ++i) weight[k][i] = pack(score[k * 8 + i * 2], score[k * 8 + i * 2 + 1]);
}

/// Leaves weights in a box that wgmma reads.
__device__ inline void store_weights(bf16* box, const WgmmaWeights& weight, const WgmmaLane& lane) {
#pragma unroll
  for (int k = 0; k < 4; ++k)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      bf16* const pair = box + place_in_box(lane.row(i % 2), k * 16 + i / 2 * 8 + lane.c);
      *reinterpret_cast<std::uint32_t*>(pair) = weight[k][i];
    }
}
// [weights]

/// @param factor for this thread's two rows; 1 for all rows of the warp costs nothing
__device__ inline void scale_rows(WgmmaValues& value, float2 factor) {
  if (!__any_sync(all_lanes, factor.x != 1.0f || factor.y != 1.0f)) return;
#pragma unroll
  for (int j = 0; j < 32; ++j) {
    value[j * 4] *= factor.x, value[j * 4 + 1] *= factor.x;
    value[j * 4 + 2] *= factor.y, value[j * 4 + 3] *= factor.y;
  }
}

// [values]
/// Adds the weighted rows of a page, for the left (0) or right (1) half of the columns. The page lies as tokens x columns
/// and is summed over tokens, so the tensor cores read it transposed. Not finished before wgmma_wait.
__device__ inline void add_values(WgmmaValues& value, const bf16* weights, const PageBoxes& page, int half) {
  const MatrixDescriptor a = wgmma_descriptor(weights);
  const MatrixDescriptor b = wgmma_descriptor_transposed(page.box(half * value_boxes / 2));
  wgmma_fence();
#pragma unroll
  for (int k = 0; k < page_tokens / 16; ++k)
    wgmma_m64n256k16<true>(value, a + 2 * k, b + 128 * k);  // 16 tokens: 32 bytes of a row of weights, 16 rows of values
  wgmma_commit();
}
// [values]

/// The same with weights that this warpgroup has in registers. They too must not be touched before wgmma_wait.
__device__ inline void add_values(WgmmaValues& value, const WgmmaWeights& weights, const PageBoxes& page, int half) {
  const MatrixDescriptor b = wgmma_descriptor_transposed(page.box(half * value_boxes / 2));
  wgmma_fence();
#pragma unroll
  for (int k = 0; k < page_tokens / 16; ++k) wgmma_m64n256k16<true>(value, weights[k], b + 128 * k);
  wgmma_commit();
}

/// Puts each row's sum together. @return what its output is multiplied by
__device__ inline float2 finish(OnlineSoftmax (&softmax)[2]) {
  for (OnlineSoftmax& s : softmax) s.sum = quad_sum(s.sum);
  return {softmax[0].normalisation(), softmax[1].normalisation()};
}

template <class Sink>
__device__ void store_lse(const OnlineSoftmax (&softmax)[2], const WgmmaLane& lane, int first_head, int all_heads,
                          const Sink& sink) {
  for (int r = 0; r < 2; ++r)
    if (const int h = first_head + lane.row(r); lane.c == 0 && h < all_heads) sink.store_lse(h, softmax[r].log_sum_exp());
}

/// Hands half of the columns of the heads that exist to the sink, each row times its normalisation.
template <class Sink>
__device__ void store_rows(const WgmmaValues& value, float2 normalisation, const WgmmaLane& lane, int half, int first_head,
                           int all_heads, const Sink& sink) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int h = first_head + lane.row(r);
    const float n = r == 0 ? normalisation.x : normalisation.y;
    if (h >= all_heads) continue;
#pragma unroll
    for (int j = 0; j < 32; ++j)
      sink.store(h, half * half_width + j * 8 + lane.c, value[j * 4 + r * 2] * n, value[j * 4 + r * 2 + 1] * n);
  }
}

}  // namespace kv::cuda
