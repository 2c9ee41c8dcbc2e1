/// @file
/// Rung 8: warpgroup products. wgmma takes both operands from shared memory by itself, 64 heads at a time, so a page read
/// once serves 64 heads. The output, 64 x 512 in f32, would be half of the register file for one warpgroup: two of them
/// hold half of its columns each. The first one also makes the scores and the weights.
///
/// Removes: loading operands through registers for 16 heads at a time.
/// Bottleneck now: at 128 heads the tensor cores wait while the first warpgroup takes exponentials; per page and tile
/// about 1150 clocks of scores and 1025 of values are one after the other, with the softmax between them. And a page's
/// place is free only after both, so little more than one page is on its way at a time.
/// Prediction: 55-65% of the roofline at (batch 128, context 4096, 128 heads). None was made for 16 heads, where three
/// quarters of each product are padding. Measured: docs/measured/ladder.md.
/// Traffic: 1152 bytes for each token and 64 heads; a page comes whole.
/// Shared memory: 231 KB, one block on a multiprocessor. Architecture: sm_90a only. Grid (H/64, shares), 384 threads: two
/// warpgroups that compute with 232 registers each, 128 of them output, and one that fetches and needs 40.
#include "chapters/06_cuda_kernels/ladder/split.hpp"
#include "chapters/06_cuda_kernels/ladder/wgmma_tile.hpp"

namespace kv::cuda {
namespace {

constexpr int threads = 3 * warpgroup_threads;

struct Shared {
  PageStages stages;
  alignas(1024) bf16 queries[boxes * box_size];  // boxes like a page's, with a row for each head
  alignas(1024) bf16 weights[box_size];          // one box: heads x tokens
  float factor[warpgroup_heads];                 // for the output so far; at the end, its normalisation
  mbarrier queries_full, queries_empty;
  mbarrier told, heard;  // the first warpgroup has written weights and factors; the second has used them
};
static_assert(sizeof(Shared) <= 227 * 1024, "what a block may have");

/// Counts what passes between the warpgroups and from the producer; all of them count alike.
struct Count {
  int pages = 0, messages = 0, sequences = 0;
};

// [scores]
/// (64 heads x 64 tokens), box by box as they come.
__device__ void score_page(WgmmaScores& score, Shared& shared, int n) {
#pragma unroll
  for (float& s : score) s = 0.0f;
#pragma unroll 1
  for (int i = 0; i < boxes; ++i) {
    shared.stages.wait(n, i);
    score_box(score, shared.queries + i * box_size, shared.stages.page(n).box(i));
  }
  wgmma_wait<0>();
}
// [scores]

/// What a warp has waited for is its own part of a product; the others may still be reading the keys.
__device__ void clear_values_beyond(const PageBoxes& page, int rows, const WgmmaLane& lane) {
  named_barrier_sync(1, warpgroup_threads);
  page.clear_values(rows, page_tokens, lane.thread, warpgroup_threads);
  fence_proxy_async();
  named_barrier_sync(1, warpgroup_threads);
}

/// Tells the second warpgroup the factors of this thread's rows, and with them that the weights are there.
__device__ void tell(Shared& shared, const WgmmaLane& lane, float2 factor) {
  if (lane.c == 0) shared.factor[lane.row(0)] = factor.x, shared.factor[lane.row(1)] = factor.y;
  fence_proxy_async();  // wgmma reads what ordinary stores have written
  mbarrier_arrive(&shared.told);
}

// [first]
/// Scores and weights, and the left half of the output.
__device__ void first_warpgroup(Shared& shared, const MlaDecode& problem, const SplitWork& work,
                                const Share& share) {
  const WgmmaLane lane;
  const int first_head = blockIdx.x * warpgroup_heads, k = blockIdx.y;
  Count n;
  const auto wait_until_heard = [&] {
    if (n.messages > 0) mbarrier_wait(&shared.heard, (n.messages - 1) % 2);
  };
  for (int b = share.first_sequence; b <= share.last_sequence; ++b) {
    const int S = problem.lengths[b];
    const PageRange part = share.part(b, pages_of(S));
    if (S == 0) continue;  // combine() knows
    WgmmaValues value = {};
    OnlineSoftmax softmax[2];
    mbarrier_wait(&shared.queries_full, n.sequences++ % 2);
    for (int i = part.first; i < part.end; ++i, ++n.pages, ++n.messages) {
      const PageBoxes page = shared.stages.page(n.pages);
      const int rows = rows_of_page(S, i);
      WgmmaScores score;
      score_page(score, shared, n.pages);
      if (i + 1 == part.end) mbarrier_arrive(&shared.queries_empty);
      mask_scores(score, lane, rows, problem.scale);
      const float2 factor = renew(softmax, score);
      weigh_scores(score, softmax);
      WgmmaWeights weight;
      round_weights(weight, score);
      if (rows < page_tokens) clear_values_beyond(page, rows, lane);
      wait_until_heard();
      store_weights(shared.weights, weight, lane);
      tell(shared, lane, factor);
      scale_rows(value, factor);
      add_values(value, weight, page, 0);
      wgmma_wait<0>();
      shared.stages.release(n.pages);
    }
    for (OnlineSoftmax& s : softmax) s.sum = quad_sum(s.sum);
    const float2 normalisation{softmax[0].normalisation(), softmax[1].normalisation()};
    wait_until_heard();
    tell(shared, lane, normalisation);
    ++n.messages;
    deliver(problem, work, k, b, part, [&](const auto& sink) {
      store_rows(value, normalisation, lane, 0, first_head, problem.heads, sink);
      for (int r = 0; r < 2; ++r)
        if (lane.c == 0 && first_head + lane.row(r) < problem.heads)
          sink.store_lse(first_head + lane.row(r), softmax[r].log_sum_exp());
    });
  }
}
// [first]

// [second]
/// The right half of the output, with the first one's weights.
__device__ void second_warpgroup(Shared& shared, const MlaDecode& problem, const SplitWork& work,
                                 const Share& share) {
  const WgmmaLane lane;
  const int first_head = blockIdx.x * warpgroup_heads, k = blockIdx.y;
  Count n;
  const auto listen = [&] {
    mbarrier_wait(&shared.told, n.messages++ % 2);
    return float2{shared.factor[lane.row(0)], shared.factor[lane.row(1)]};
  };
  for (int b = share.first_sequence; b <= share.last_sequence; ++b) {
    const int S = problem.lengths[b];
    const PageRange part = share.part(b, pages_of(S));
    if (S == 0) continue;
    WgmmaValues value = {};
    for (int i = part.first; i < part.end; ++i, ++n.pages) {
      for (int box = value_boxes / 2; box < value_boxes; ++box) shared.stages.wait(n.pages, box);
      scale_rows(value, listen());
      add_values(value, shared.weights, shared.stages.page(n.pages), 1);
      wgmma_wait<0>();
      mbarrier_arrive(&shared.heard);
      shared.stages.release(n.pages);
    }
    const float2 normalisation = listen();
    mbarrier_arrive(&shared.heard);
    deliver(problem, work, k, b, part, [&](const auto& sink) {
      store_rows(value, normalisation, lane, 1, first_head, problem.heads, sink);
    });
  }
}
// [second]

/// One thread fetches the queries of each sequence and all pages of the share, in the order in which they are used.
__device__ void produce(Shared& shared, const MlaDecode& problem, const Share& share, const TensorMap* queries,
                        const TensorMap* latents) {
  const int first_head = blockIdx.x * warpgroup_heads;
  Count n;
  for (int b = share.first_sequence; b <= share.last_sequence; ++b) {
    const PageRange part = share.part(b, pages_of(problem.lengths[b]));
    if (part.first >= part.end) continue;
    const auto fetch = [&](int i) { shared.stages.fetch(n.pages++, latents, problem.page_number(b, i)); };
    fetch(part.first);  // it need not wait until the last sequence's queries are done with
    if (n.sequences > 0) mbarrier_wait(&shared.queries_empty, (n.sequences - 1) % 2);
    ++n.sequences;
    mbarrier_expect_bytes(&shared.queries_full, boxes * box_bytes);
    // Heads that do not exist are the next sequence's, or zeros at the end: they cost time and change nothing.
    for (int i = 0; i < boxes; ++i)
      tma_load(shared.queries + i * box_size, queries, &shared.queries_full, i * box_width,
               b * problem.heads + first_head);
    for (int i = part.first + 1; i < part.end; ++i) fetch(i);
  }
}

__global__ void __launch_bounds__(threads, 1)
    wgmma_kernel(const MlaDecode problem, const SplitWork work, const __grid_constant__ TensorMap queries,
                 const __grid_constant__ TensorMap latents) {
  Shared& shared = *dynamic_shared<Shared>();
  if (threadIdx.x == 0) {
    shared.stages.init(2 * warpgroup_threads);
    mbarrier_init(&shared.queries_full, 1);
    mbarrier_init(&shared.queries_empty, warpgroup_threads);
    mbarrier_init(&shared.told, warpgroup_threads);
    mbarrier_init(&shared.heard, warpgroup_threads);
    mbarrier_init_done();
  }
  __syncthreads();
  const Share share = work.schedule.shares[blockIdx.y];
  // [roles]
  // The shuffle changes nothing, and shows the compiler that a warp has one role.
  const int role = __shfl_sync(all_lanes, threadIdx.x / warpgroup_threads, 0);
  if (role == 2) {
    lower_register_budget<40>();
    if (threadIdx.x == 2 * warpgroup_threads) produce(shared, problem, share, &queries, &latents);
  } else {
    raise_register_budget<232>();
    if (role == 0)
      first_warpgroup(shared, problem, work, share);
    else
      second_warpgroup(shared, problem, work, share);
  }
  // [roles]
}

constexpr Cut cut{warpgroup_heads, 1};

void run(const MlaDecode& problem, const Resources& resources) {
  run_split(problem, resources, cut, [&](dim3 grid, const SplitWork& work) {
    if (problem.pages == 0) return;  // all sequences are empty, and a map of nothing cannot be made
    const std::int64_t rows = std::int64_t(problem.batch) * problem.heads;
    const TensorMap queries = make_tensor_map(problem.queries, rows, latent_width, latent_width, warpgroup_heads);
    const TensorMap latents = latents_map(problem);
    launch({grid, threads, sizeof(Shared), resources.stream}, wgmma_kernel, problem, work, queries, latents);
  });
}

}  // namespace

Rung wgmma() {
  return {.number = 8,
          .name = "wgmma",
          .idea = "a page read once serves 64 heads; two warpgroups hold half of the output each",
          .removes = "operands loaded for 16 heads at a time",
          .prediction = {{}, Percent{55, 65}},
          .capability = 90,
          .only_there = true,
          .shared_bytes = sizeof(Shared),
          .rounds_weights = true,
          .workspace_bytes = split_bytes<cut>,
          .launch = run,
          .share_count = split_shares<cut>};
}

}  // namespace kv::cuda
