/// @file
/// Rung 9: the seesaw. Two warpgroups hold half of the output's columns each, as on rung 8, but both make scores, each for
/// every other page. A page's weights multiply one half of the page from the registers of the warpgroup that made them,
/// and the other half, by the other warpgroup, from shared memory. So one multiplies while the other exponentiates.
///
/// Pages take effect in their order: with the weights of a page goes the softmax so far, and the other warpgroup goes on
/// from there. So both halves of the output have the same scale, an odd number of pages is nothing special, and one box
/// is enough for weights: who has read it writes the next.
///
/// Removes: tensor cores that wait for the softmax.
/// Bottleneck now: pages in flight. A page's place is empty for a trip to memory, and then in use for scores, softmax and
/// values; there is room for two. And the L2 delivers each page once for every 64 heads.
/// Prediction: 62-72% of the roofline at (batch 128, context 4096, 128 heads) on an H200, and 75-85% on an H100, where
/// memory is the limit; made when rung 8 had been measured on an H100, at 72%. None for 16 heads. Measured: docs/measured/ladder.md.
/// Traffic: 1152 bytes for each token and 64 heads; a page comes whole.
/// Shared memory: 232 KB, all that a block may have. Architecture: sm_90a only. Grid (H/64, shares), 384 threads: two
/// warpgroups that compute with 232 registers each, 128 of them output, and one that fetches and needs 40.
#include "chapters/06_cuda_kernels/ladder/split.hpp"
#include "chapters/06_cuda_kernels/ladder/wgmma_tile.hpp"

namespace kv::cuda {
namespace {

constexpr int threads = 3 * warpgroup_threads;
constexpr int left_boxes = value_boxes / 2;
constexpr int boxes_ahead = 5;  ///< of a page's scores that are begun before the other warpgroup's weights are waited for

/// Page n of all that pass through here has place n % 2, and warpgroup n % 2 makes its scores. A box has a barrier of its
/// own, as in PageStages, but a page is given back half by half: boxes 0 to 3 by warpgroup 0, the others by warpgroup 1.
struct Shared {
  alignas(1024) bf16 pages[2][boxes * box_size];
  bf16 queries[boxes * box_size];     // boxes like a page's, with a row for each head
  bf16 weights[box_size];             // of one page, heads x tokens
  float4 softmax[warpgroup_threads];  // up to that page, of a thread's two rows, for its like in the other warpgroup
  mbarrier full[2][boxes], empty[2][2];
  mbarrier queries_full, queries_empty;
  mbarrier told;  // phase n: weights and softmax of page n are there

  __device__ void init() {
    for (int place = 0; place < 2; ++place) {
      for (mbarrier& box : full[place]) mbarrier_init(&box, 1);
      for (mbarrier& half : empty[place]) mbarrier_init(&half, warpgroup_threads);
    }
    mbarrier_init(&queries_full, 1);
    mbarrier_init(&queries_empty, 2 * warpgroup_threads);
    mbarrier_init(&told, warpgroup_threads);
    mbarrier_init_done();
  }

  /// Asks for page n, half by half as page n-2 is given back.
  __device__ void fetch(int n, const TensorMap* latents, int page) {
    for (int half = 0; half < 2; ++half) {
      if (n >= 2) mbarrier_wait(&empty[n % 2][half], (n / 2 - 1) % 2);
      for (int i = half == 0 ? 0 : left_boxes; i < (half == 0 ? left_boxes : boxes); ++i) {
        mbarrier_expect_bytes(&full[n % 2][i], box_bytes);
        tma_load(pages[n % 2] + i * box_size, latents, &full[n % 2][i], i * box_width, page * page_tokens);
      }
    }
  }
  __device__ void wait(int n, int box) { mbarrier_wait(&full[n % 2][box], n / 2 % 2); }
  __device__ PageBoxes page(int n) { return {pages[n % 2]}; }
  __device__ void release(int n, int half) { mbarrier_arrive(&empty[n % 2][half]); }
};
static_assert(sizeof(Shared) <= 227 * 1024, "what a block may have");

/// (64 heads x 64 tokens), from boxes first ... end-1 as they come. Not finished before wgmma_wait.
__device__ void score_boxes(WgmmaScores& score, Shared& shared, int n, int first, int end) {
#pragma unroll 1
  for (int i = first; i < end; ++i) {
    shared.wait(n, i);
    score_box(score, shared.queries + i * box_size, shared.page(n).box(i));
  }
}
__device__ void start_scores(WgmmaScores& score, Shared& shared, int n) {
#pragma unroll
  for (float& s : score) s = 0.0f;
  score_boxes(score, shared, n, 0, boxes_ahead);
}
__device__ void finish_scores(WgmmaScores& score, Shared& shared, int n) {
  score_boxes(score, shared, n, boxes_ahead, boxes);
  wgmma_wait<0>();
}

// [tell]
/// Hands over page n: its weights, and the softmax so far.
__device__ void tell(Shared& shared, const WgmmaWeights& weight, const OnlineSoftmax (&softmax)[2], const WgmmaLane& lane) {
  store_weights(shared.weights, weight, lane);
  const float4 so_far{softmax[0].largest, softmax[0].sum, softmax[1].largest, softmax[1].sum};
  shared.softmax[lane.thread] = so_far;
  fence_proxy_async();  // wgmma reads what ordinary stores have written
  mbarrier_arrive(&shared.told);
}

/// Takes over page n, and goes on from there. @return the factors for the output so far
__device__ float2 listen(Shared& shared, OnlineSoftmax (&softmax)[2], int n, const WgmmaLane& lane) {
  mbarrier_wait(&shared.told, n % 2);
  const float4 told = shared.softmax[lane.thread];
  const float2 factor{expf(softmax[0].largest - told.x), expf(softmax[1].largest - told.z)};
  softmax[0] = {told.x, told.y}, softmax[1] = {told.z, told.w};
  return factor;
}
// [tell]

/// All threads of the warpgroup come here when they have read the keys. @param barrier theirs alone
__device__ void clear_values_beyond(const PageBoxes& page, int rows, const WgmmaLane& lane, int barrier) {
  page.clear_values(rows, page_tokens, lane.thread, warpgroup_threads);
  fence_proxy_async();
  named_barrier_sync(barrier, warpgroup_threads);
}

/// Half `w` of the output's columns, and the scores and weights of every other page.
__device__ void compute(int w, Shared& shared, const MlaDecode& problem, const SplitWork& work, const Share& share) {
  const WgmmaLane lane;
  const int first_head = blockIdx.x * warpgroup_heads, k = blockIdx.y, barrier = 1 + w;
  int sequences = 0, end = 0;
  for (int b = share.first_sequence; b <= share.last_sequence; ++b) {
    const int S = problem.lengths[b];
    const PageRange part = share.part(b, pages_of(S));
    if (S == 0) continue;  // combine() knows
    const int begin = end;
    end += part.end - part.first;
    WgmmaValues value = {};
    OnlineSoftmax softmax[2];
    mbarrier_wait(&shared.queries_full, sequences++ % 2);
    // [seesaw]
    const auto add_theirs = [&](int n) {  // with weights that the other warpgroup has made
      scale_rows(value, listen(shared, softmax, n, lane));
      add_values(value, shared.weights, shared.page(n), w);
      wgmma_wait<0>();
      shared.release(n, w);
    };
    int n = begin + (begin + w) % 2;  // a page of ours; those before and after it are theirs
    WgmmaScores score;
    if (n > begin) add_theirs(n - 1);
    if (n < end) {
      start_scores(score, shared, n);
      finish_scores(score, shared, n);
    }
    while (n < end) {
      const int rows = rows_of_page(S, part.first + n - begin);
      mask_scores(score, lane, rows, problem.scale);
      const float2 factor{softmax[0].renew(row_max(score, 0)), softmax[1].renew(row_max(score, 1))};
      weigh_scores(score, softmax);
      WgmmaWeights weight;
      round_weights(weight, score);
      named_barrier_sync(barrier, warpgroup_threads);  // all four warps have read the other's weights, and these keys
      if (rows < page_tokens) clear_values_beyond(shared.page(n), rows, lane, barrier);
      tell(shared, weight, softmax, lane);
      scale_rows(value, factor);
      add_values(value, weight, shared.page(n), w);
      wgmma_wait<0>();
      shared.release(n, w);
      n += 2;
      if (n < end) {
        start_scores(score, shared, n);
        add_theirs(n - 1);
        finish_scores(score, shared, n);
      } else if (n == end) {
        add_theirs(n - 1);
      }
    }
    // [seesaw]
    mbarrier_arrive(&shared.queries_empty);
    for (OnlineSoftmax& s : softmax) s.sum = quad_sum(s.sum);
    const float2 normalisation{softmax[0].normalisation(), softmax[1].normalisation()};
    deliver(problem, work, k, b, part, [&](const auto& sink) {
      store_rows(value, normalisation, lane, w, first_head, problem.heads, sink);
      for (int r = 0; r < 2; ++r)
        if (w == 0 && lane.c == 0 && first_head + lane.row(r) < problem.heads)
          sink.store_lse(first_head + lane.row(r), softmax[r].log_sum_exp());
    });
  }
}

/// One thread fetches the queries of each sequence and all pages of the share, in the order in which they are used.
__device__ void produce(Shared& shared, const MlaDecode& problem, const Share& share, const TensorMap* queries,
                        const TensorMap* latents) {
  const int first_head = blockIdx.x * warpgroup_heads;
  int sequences = 0, pages = 0;
  for (int b = share.first_sequence; b <= share.last_sequence; ++b) {
    const PageRange part = share.part(b, pages_of(problem.lengths[b]));
    if (part.first >= part.end) continue;
    if (sequences > 0) mbarrier_wait(&shared.queries_empty, (sequences - 1) % 2);
    ++sequences;
    mbarrier_expect_bytes(&shared.queries_full, boxes * box_bytes);
    // Heads that do not exist are the next sequence's, or zeros at the end: they cost time and change nothing.
    for (int i = 0; i < boxes; ++i)
      tma_load(shared.queries + i * box_size, queries, &shared.queries_full, i * box_width,
               b * problem.heads + first_head);
    for (int i = part.first; i < part.end; ++i) shared.fetch(pages++, latents, problem.page_number(b, i));
  }
}

__global__ void __launch_bounds__(threads, 1)
    seesaw_kernel(const MlaDecode problem, const SplitWork work, const __grid_constant__ TensorMap queries,
                  const __grid_constant__ TensorMap latents) {
  Shared& shared = *dynamic_shared<Shared>();
  if (threadIdx.x == 0) shared.init();
  __syncthreads();
  const Share share = work.schedule.shares[blockIdx.y];
  // The shuffle changes nothing, and shows the compiler that a warp has one role.
  const int role = __shfl_sync(all_lanes, threadIdx.x / warpgroup_threads, 0);
  if (role == 2) {
    lower_register_budget<40>();
    if (threadIdx.x == 2 * warpgroup_threads) produce(shared, problem, share, &queries, &latents);
  } else {
    raise_register_budget<232>();
    compute(role, shared, problem, work, share);
  }
}

constexpr Cut cut{warpgroup_heads, 1};

std::size_t workspace_bytes(const MlaDecode& problem, int multiprocessors) {
  return cut.workspace_bytes(problem, multiprocessors);
}

void run(const MlaDecode& problem, const Resources& resources) {
  run_split(problem, resources, cut, [&](dim3 grid, const SplitWork& work) {
    if (problem.pages == 0) return;  // all sequences are empty, and a map of nothing cannot be made
    const std::int64_t rows = std::int64_t(problem.batch) * problem.heads;
    const TensorMap queries = make_tensor_map(problem.queries, rows, latent_width, latent_width, warpgroup_heads);
    const TensorMap latents = latents_map(problem);
    launch({grid, threads, sizeof(Shared), resources.stream}, seesaw_kernel, problem, work, queries, latents);
  });
}

}  // namespace

Rung seesaw() {
  return {.number = 9,
          .name = "seesaw",
          .idea = "two warpgroups make the weights of every other page each, and multiply each other's",
          .removes = "tensor cores that wait for the softmax",
          .prediction = {{}, Percent{62, 72}},
          .capability = 90,
          .only_there = true,
          .shared_bytes = sizeof(Shared),
          .rounds_weights = true,
          .workspace_bytes = workspace_bytes,
          .launch = run};
}

}  // namespace kv::cuda
