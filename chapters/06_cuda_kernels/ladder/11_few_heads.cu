/// @file
/// Rung 11: few heads. wgmma has 64 rows, whatever they are. On rungs 7c to 10 they are heads, and with 16 heads three
/// quarters of each product are padding. Here the factors change places: the rows are tokens, then columns of the values, of
/// which there are always enough, and the 16 heads are the short side. S^T = K Q^T and O^T = V^T P^T; keys and values are
/// the same boxes, read as the left factor along their rows and then transposed. The output of 16 heads is 64 registers of
/// each thread, so one warpgroup has all of it.
///
/// Removes: padding, where heads are few.
/// Bottleneck now: memory.
/// Prediction: 85-90% of the roofline at (batch 128, context 4096, 16 heads), 15-20% at 128 heads. For a page shared memory
/// moves keys 73,728 bytes and queries 18,432, values 65,536 and weights 8 x 2,048: 1360 clocks. With about 450 for the
/// softmax and its two barriers a page is used for 1.1 us at 1.7 GHz, and filled in 2.9, of which 2.2 are memory's. So one
/// comes every 2.2 us: 62 of them take 136 us, and schedule and combine 15 to 20. At 128 heads a page is read 8 times,
/// 4.8 GB from L2 at 5.3 TB/s: 911 us, or more. Never run on a GPU.
/// Traffic: 1152 bytes for each token and 16 heads; a page comes whole.
/// Shared memory: 170 KB, one block on a multiprocessor. Architecture: sm_90a only. Grid (H/16, shares), 160 threads.
#include "chapters/06_cuda_kernels/ladder/wgmma_feed.hpp"

namespace kv::cuda {
namespace {

constexpr int heads = 16, warps = warpgroup_threads / warp_threads;
constexpr int query_box = heads * box_width;

struct Shared {
  PageStages stages;
  alignas(1024) bf16 queries[boxes * query_box];
  alignas(1024) bf16 weights[query_box];  // one box: heads x tokens
  float of_warp[warps][heads];            // a maximum or a sum over a warp's tokens
  mbarrier queries_full, queries_empty;
};

/// A thread's part: of scores (64 tokens x 16 heads), [4j+i] is token row(i/2) of head 8j+c+i%2; of values (8 times 64
/// columns x 16 heads) likewise.
using Scores = float[8];
using Values = float[value_boxes][8];

/// What one thread of the warpgroup knows. It has four heads, of(0) ... of(3).
struct Lane : WgmmaLane {
  OnlineSoftmax softmax[4];  // its sum only over this thread's tokens, until finish()
  Values value = {};

  __device__ int of(int h) const { return h / 2 * 8 + c + h % 2; }
  /// Of the thread's number for each of its heads, over all tokens of the page. A barrier for the warpgroup.
  template <class Combine>
  __device__ void over_tokens(Shared& shared, float (&number)[4], Combine combine) const {
#pragma unroll
    for (float& own : number)
#pragma unroll
      for (int lanes = 4; lanes < warp_threads; lanes *= 2) own = combine(own, __shfl_xor_sync(all_lanes, own, lanes));
#pragma unroll
    for (int h = 0; h < 4; ++h)
      if (g == 0) shared.of_warp[thread / warp_threads][of(h)] = number[h];
    named_barrier_sync(1, warpgroup_threads);
#pragma unroll
    for (int h = 0; h < 4; ++h) {
      number[h] = shared.of_warp[0][of(h)];
      for (int w = 1; w < warps; ++w) number[h] = combine(number[h], shared.of_warp[w][of(h)]);
    }
  }

  // [scores]
  /// Tokens are the rows of the product, heads its 16 columns.
  __device__ void score_page(Scores& score, Shared& shared, int n) {
#pragma unroll
    for (float& s : score) s = 0.0f;
#pragma unroll 1
    for (int i = 0; i < boxes; ++i) {
      shared.stages.wait(n, i);
      const MatrixDescriptor keys = wgmma_descriptor(shared.stages.page(n).box(i));
      const MatrixDescriptor queries = wgmma_descriptor(shared.queries + i * query_box);
      wgmma_fence();
#pragma unroll
      for (int k = 0; k < box_width / 16; ++k)
        wgmma_m64n16k16(score, keys + 2 * k, queries + 2 * k);
      wgmma_commit();
    }
    wgmma_wait<0>();
  }
  // [scores]

  /// Scores become weights in shared memory, heads x tokens. Two barriers for the warpgroup.
  __device__ void soften(Shared& shared, Scores& score, int rows, float scale) {
    float largest[4];
#pragma unroll
    for (int i = 0; i < 8; ++i) score[i] = row(i % 4 / 2) < rows ? score[i] * scale : -INFINITY;
#pragma unroll
    for (int h = 0; h < 4; ++h) largest[h] = fmaxf(score[h / 2 * 4 + h % 2], score[h / 2 * 4 + h % 2 + 2]);
    over_tokens(shared, largest, [](float a, float b) { return fmaxf(a, b); });
#pragma unroll
    for (int h = 0; h < 4; ++h) {
      const float factor = softmax[h].renew(largest[h]);
#pragma unroll
      for (int m = 0; m < value_boxes; ++m)
#pragma unroll
        for (int r = 0; r < 2; ++r) value[m][h / 2 * 4 + r * 2 + h % 2] *= factor;
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const float weight = softmax[h].weight(score[h / 2 * 4 + r * 2 + h % 2]);
        softmax[h].sum += weight;
        shared.weights[place_in_box(of(h), row(r))] = to_bf16(weight);
      }
    }
    fence_proxy_async();  // wgmma reads what ordinary stores have written
    named_barrier_sync(1, warpgroup_threads);
  }

  // [values]
  /// The same boxes transposed: their columns are the rows of the product, and it sums over tokens.
  __device__ void add_values(Shared& shared, const PageBoxes& page) {
    const MatrixDescriptor weights = wgmma_descriptor(shared.weights);
    wgmma_fence();
#pragma unroll
    for (int m = 0; m < value_boxes; ++m) {
      const MatrixDescriptor values = wgmma_descriptor_transposed(page.box(m));
#pragma unroll
      for (int k = 0; k < page_tokens / 16; ++k)
        wgmma_m64n16k16<true>(value[m], values + 128 * k, weights + 2 * k);
    }
    wgmma_commit();
    wgmma_wait<0>();
  }
  // [values]

  /// Hands the heads that exist to the sink. It takes two columns of a head; here they are in two lanes, of which each
  /// gets both columns of one head.
  template <class Sink>
  __device__ void finish(Shared& shared, int first_head, int all_heads, const Sink& sink) {
    float sum[4];
#pragma unroll
    for (int h = 0; h < 4; ++h) sum[h] = softmax[h].sum;
    over_tokens(shared, sum, [](float a, float b) { return a + b; });
    const bool odd = g % 2;
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      OnlineSoftmax &left = softmax[2 * j], &right = softmax[2 * j + 1];
      left.sum = sum[2 * j], right.sum = sum[2 * j + 1];
      const int h = first_head + 8 * j + c + odd;
#pragma unroll
      for (int m = 0; m < value_boxes; ++m)
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          const float first = value[m][4 * j + 2 * r] * left.normalisation();
          const float second = value[m][4 * j + 2 * r + 1] * right.normalisation();
          const float other = __shfl_xor_sync(all_lanes, odd ? first : second, 4);
          if (h < all_heads) sink.store(h, m * box_width + row(r) - odd, odd ? other : first, odd ? second : other);
        }
      if (thread < 8 && h < all_heads) sink.store_lse(h, odd ? right.log_sum_exp() : left.log_sum_exp());
    }
    named_barrier_sync(1, warpgroup_threads);  // the next sequence's maxima go where the sums are
  }
};

__device__ void consume(Shared& shared, const MlaDecode& problem, const SplitWork& work, const Share& share) {
  const int first_head = blockIdx.x * heads, k = blockIdx.y;
  Count n;
  for (int b = share.first_sequence; b <= share.last_sequence; ++b) {
    const int S = problem.lengths[b];
    const PageRange part = share.part(b, pages_of(S));
    if (S == 0) continue;  // combine() knows
    Lane lane;
    mbarrier_wait(&shared.queries_full, n.sequences++ % 2);
    for (int i = part.first; i < part.end; ++i, ++n.pages) {
      const PageBoxes page = shared.stages.page(n.pages);
      const int rows = rows_of_page(S, i);
      Scores score;
      lane.score_page(score, shared, n.pages);
      if (i + 1 == part.end) mbarrier_arrive(&shared.queries_empty);
      if (rows < page_tokens) clear_values_beyond(page, rows, lane);
      lane.soften(shared, score, rows, problem.scale);
      lane.add_values(shared, page);
      shared.stages.release(n.pages);
    }
    deliver(problem, work, k, b, part, [&](const auto& sink) { lane.finish(shared, first_head, problem.heads, sink); });
  }
}

struct FewHeads : BoxesKernel {
  using Shared = cuda::Shared;
  static constexpr Cut cut{heads, 1};
  static constexpr int threads = warpgroup_threads + warp_threads;

  static __device__ void init(Shared& shared) { init_feed(shared, warpgroup_threads); }
  template <class Fetch>
  static __device__ void roles(Shared& shared, const MlaDecode& problem, const SplitWork& work, const Share& share, Fetch fetch) {
    if (threadIdx.x < warpgroup_threads)
      consume(shared, problem, work, share);
    else if (threadIdx.x == warpgroup_threads)
      fetch();
  }
};

}  // namespace

Rung few_heads() {
  return boxes_rung<FewHeads>({.number = 11,
                               .name = "few heads",
                               .idea = "tokens and columns are the rows of the products, heads their short side",
                               .removes = "padding, where heads are few",
                               .prediction = {Percent{85, 90}, Percent{15, 20}},
                               .untried = true});
}

}  // namespace kv::cuda
