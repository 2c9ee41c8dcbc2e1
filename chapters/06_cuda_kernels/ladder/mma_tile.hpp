#pragma once
/// @file
/// What four or eight warps do with 16 heads and one page on tensor cores, through mma.sync: rungs 6, 7 and 7b.
///
/// Scores (16 x 64): each of four warps multiplies all heads with 16 tokens, each of eight with 8. Values (16 x 512): a
/// warp sums 128 columns or 64. Between the two, weights change owners through shared memory, rounded to bf16.
///
/// Of a 16 x 8 result a lane holds, with g = lane/4 and c = 2(lane%4): [0], [1] = (g, c), (g, c+1) and
/// [2], [3] = (g+8, c), (g+8, c+1).
#include "chapters/06_cuda_kernels/ladder/bf16x8.hpp"
#include "chapters/06_cuda_kernels/ladder/mla_decode.hpp"
#include "chapters/06_cuda_kernels/ladder/online_softmax.hpp"
#include "chapters/06_cuda_kernels/ladder/warp.hpp"

namespace kv::cuda {

/// In shared memory. The page is not part of it: how pages come is what rungs 6 and 7 differ in.
template <int Warps = 4>
struct MmaTile {
  static constexpr int heads = 16, warps = Warps, threads = Warps * warp_threads;
  static constexpr int tokens_of_warp = page_tokens / warps, columns_of_warp = value_width / warps;
  // A row starts 4 banks after the one before, so the eight rows that ldmatrix reads at a time lie in all 32 banks.
  static constexpr int pitch = latent_width + 8, weight_pitch = page_tokens + 8;

  alignas(16) bf16 queries[heads][pitch];
  alignas(16) bf16 weight[heads][weight_pitch];
  float of_warp[warps][heads];  // a maximum or a sum over a warp's tokens

  /// Heads that do not exist get zeros: they cost time and change nothing.
  __device__ void load_queries(const MlaDecode& problem, int b, int first_head) {
    constexpr int pieces = latent_width / 8;
    for (int k = threadIdx.x; k < heads * pieces; k += threads) {
      const int h = k / pieces, i = k % pieces;
      const bool exists = first_head + h < problem.heads;
      reinterpret_cast<uint4*>(queries[h])[i] = exists ? load_8(problem.query(b, first_head + h), i) : uint4{0, 0, 0, 0};
    }
  }
};

/// What one thread of these warps knows.
template <int Warps = 4>
struct MmaLane {
  using Tile = MmaTile<Warps>;
  static constexpr int token_groups = Tile::tokens_of_warp / 8, column_groups = Tile::columns_of_warp / 8;

  int warp, lane, g, c;
  float score[2][4];  ///< heads g, g+8; of four warps tokens 16*warp + 8n + c, c+1, of eight two sums for 8*warp + c, c+1
  float value[column_groups][4] = {};  ///< heads g, g+8; columns columns_of_warp*warp + 8n + c, c+1
  OnlineSoftmax softmax[2];  ///< of heads g, g+8; its sum only over this thread's tokens, until finish()

  __device__ MmaLane() : warp(threadIdx.x / warp_threads), lane(threadIdx.x % warp_threads), g(lane / 4), c(lane % 4 * 2) {}

  __device__ void clear_scores() {
#pragma unroll
    for (int i = 0; i < 4; ++i) score[0][i] = score[1][i] = 0.0f;
  }

  // [scores]
  /// Adds the products of columns first ... first+63.  @param page at(row, column) is an address in
  /// shared memory
  template <class Page>
  __device__ void score_columns(const Tile& tile, const Page& page, int first) {
#pragma unroll
    for (int column = first; column < first + 64; column += 16) {
      std::uint32_t a[4], b[4];
      ldmatrix_x4<false>(a, &tile.queries[lane % 16][column + lane / 16 * 8]);
      ldmatrix_x4<false>(b, page.at(warp * Tile::tokens_of_warp + lane / 16 * 8 + lane % 8,
                                    column + lane / 8 % 2 * 8));
      mma_m16n8k16(score[0], a, {b[0], b[1]});
      mma_m16n8k16(score[1], a, {b[2], b[3]});
    }
  }
  // [scores]

  // [soften]
  /// Scores become weights in shared memory. Rows beyond the sequence's end get weight 0, whatever was in them.
  /// @param sync a barrier for the warps
  template <class Sync>
  __device__ void soften(Tile& tile, int rows, float scale, Sync sync) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float largest = -INFINITY;
#pragma unroll
      for (int n = 0; n < token_groups; ++n)
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const bool exists = warp * Tile::tokens_of_warp + n * 8 + c + i < rows;
          float& s = score[n][r * 2 + i];
          s = exists ? s * scale : -INFINITY;
          largest = fmaxf(largest, s);
        }
      largest = quad_max(largest);
      if (lane % 4 == 0) tile.of_warp[warp][g + r * 8] = largest;
    }
    sync();
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float largest = -INFINITY;
      for (int w = 0; w < Tile::warps; ++w) largest = fmaxf(largest, tile.of_warp[w][g + r * 8]);
      const float factor = softmax[r].renew(largest);
#pragma unroll
      for (int n = 0; n < column_groups; ++n) value[n][r * 2] *= factor, value[n][r * 2 + 1] *= factor;
#pragma unroll
      for (int n = 0; n < token_groups; ++n) {
        const float first = softmax[r].weight(score[n][r * 2]), second = softmax[r].weight(score[n][r * 2 + 1]);
        softmax[r].sum += first + second;
        bf16* place = &tile.weight[g + r * 8][warp * Tile::tokens_of_warp + n * 8 + c];
        *reinterpret_cast<std::uint32_t*>(place) = pack(first, second);
      }
    }
    sync();
  }
  // [soften]

  // [values]
  /// Rows beyond the sequence's end must be zeros: weight 0 times NaN is NaN.
  template <class Page>
  __device__ void add_values(const Tile& tile, const Page& page) {
#pragma unroll
    for (int token = 0; token < page_tokens; token += 16) {
      std::uint32_t a[4], b[4];
      ldmatrix_x4<false>(a, &tile.weight[lane % 16][token + lane / 16 * 8]);
#pragma unroll
      for (int n = 0; n < column_groups; n += 2) {
        ldmatrix_x4<true>(
            b, page.at(token + lane % 16, warp * Tile::columns_of_warp + n * 8 + lane / 16 * 8));
        mma_m16n8k16(value[n], a, {b[0], b[1]});
        mma_m16n8k16(value[n + 1], a, {b[2], b[3]});
      }
    }
  }
  // [values]

  /// Puts the sums of exponentials together, divides by them and hands the heads that exist to the sink.
  template <class Sync, class Sink>
  __device__ void finish(Tile& tile, int first_head, int all_heads, Sync sync, const Sink& sink) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float sum = quad_sum(softmax[r].sum);
      if (lane % 4 == 0) tile.of_warp[warp][g + r * 8] = sum;
    }
    sync();
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      softmax[r].sum = 0.0f;
      for (int w = 0; w < Tile::warps; ++w) softmax[r].sum += tile.of_warp[w][g + r * 8];
      const int h = first_head + g + r * 8;
      if (h >= all_heads) continue;
      const float normalisation = softmax[r].normalisation();
#pragma unroll
      for (int n = 0; n < column_groups; ++n)
        sink.store(h, warp * Tile::columns_of_warp + n * 8 + c, value[n][r * 2] * normalisation,
                   value[n][r * 2 + 1] * normalisation);
      if (warp == 0 && lane % 4 == 0) sink.store_lse(h, softmax[r].log_sum_exp());
    }
    // No barrier: a next sequence meets one, when its queries or its first page are there, before it writes maxima.
  }
};

}  // namespace kv::cuda
