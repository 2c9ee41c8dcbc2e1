#pragma once
/// @file
/// Two warpgroups that hold half of the output's columns each, a third that fetches, and messages between them: rungs 8, 9
/// and 10.
#include "chapters/06_cuda_kernels/ladder/wgmma_feed.hpp"

namespace kv::cuda {

inline constexpr int role_threads = 3 * warpgroup_threads;

template <class Stages>
struct TwoWarpgroups {
  Stages stages;
  alignas(1024) bf16 queries[boxes * box_size];  // boxes like a page's, with a row for each head
  alignas(1024) bf16 weights[box_size];          // one box: heads x tokens
  float factor[warpgroup_heads];                 // for the output so far; at the end, its normalisation
  mbarrier queries_full, queries_empty;
  mbarrier told, heard;  // the first warpgroup has written weights and factors; the second has used them
};

/// Tells the second warpgroup the factors of this thread's rows, and with them that the weights are there.
template <class Shared>
__device__ void tell(Shared& shared, const WgmmaLane& lane, float2 factor) {
  if (lane.c == 0) shared.factor[lane.row(0)] = factor.x, shared.factor[lane.row(1)] = factor.y;
  fence_proxy_async();  // wgmma reads what ordinary stores have written
  mbarrier_arrive(&shared.told);
}

struct InTurn {
  // [order]
  /// The scores of a page, then its values, then the next page.
  template <class Shared, class Attend>
  static __device__ void pages(Shared& shared, Count& n, PageRange part, Attend attend) {
    for (int i = part.first; i < part.end; ++i, ++n.pages, ++n.messages) {
      WgmmaScores score;
      score_boxes(score, shared, n.pages, 0, boxes);
      wgmma_wait<0>();
      attend(score, i);
      wgmma_wait<0>();
      shared.stages.release(n.pages);
    }
  }
  // [order]
};

// [first]
/// Scores and weights, and the left half of the output.
/// @tparam Order of products: its `pages` calls attend(score, i) for each page whose scores are
/// there, waits for the values that this has asked for, and gives the page back
template <class Order, class Shared>
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
    WgmmaWeights weight;
    mbarrier_wait(&shared.queries_full, n.sequences++ % 2);
    Order::pages(shared, n, part, [&](WgmmaScores& score, int i) {
      const PageBoxes page = shared.stages.page(n.pages);
      const int rows = rows_of_page(S, i);
      if (i + 1 == part.end) mbarrier_arrive(&shared.queries_empty);
      mask_scores(score, lane, rows, problem.scale);
      const float2 factor = renew(softmax, score);
      weigh_scores(score, softmax);
      round_weights(weight, score);
      if (rows < page_tokens) clear_values_beyond(page, rows, lane);
      wait_until_heard();
      store_weights(shared.weights, weight, lane);
      tell(shared, lane, factor);
      scale_rows(value, factor);
      add_values(value, weight, page, 0);
    });
    const float2 normalisation = finish(softmax);
    wait_until_heard();
    tell(shared, lane, normalisation);
    ++n.messages;
    deliver(problem, work, k, b, part, [&](const auto& sink) {
      store_rows(value, normalisation, lane, 0, first_head, problem.heads, sink);
      store_lse(softmax, lane, first_head, problem.heads, sink);
    });
  }
}
// [first]

// [second]
/// The right half of the output, with the first one's weights.
template <class Shared>
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

/// Gives each warpgroup its role and the registers for it.
template <class First, class Second, class Produce>
__device__ void in_roles(First first, Second second, Produce produce) {
  // [roles]
  // The shuffle changes nothing, and shows the compiler that a warp has one role.
  const int role = __shfl_sync(all_lanes, threadIdx.x / warpgroup_threads, 0);
  if (role == 2) {
    lower_register_budget<40>();
    if (threadIdx.x == 2 * warpgroup_threads) produce();
  } else {
    raise_register_budget<232>();
    if (role == 0)
      first();
    else
      second();
  }
  // [roles]
}

/// @tparam Order of the first warpgroup's products
template <class Order, class Stages = PageStages>
struct TwoWarpgroupsKernel : BoxesKernel {
  using Shared = TwoWarpgroups<Stages>;
  static constexpr Cut cut{warpgroup_heads, 1};
  static constexpr int threads = role_threads;

  static __device__ void init(Shared& shared) {
    init_feed(shared, 2 * warpgroup_threads);
    mbarrier_init(&shared.told, warpgroup_threads);
    mbarrier_init(&shared.heard, warpgroup_threads);
  }
  template <class Fetch>
  static __device__ void roles(Shared& shared, const MlaDecode& problem, const SplitWork& work, const Share& share, Fetch fetch) {
    in_roles([&] { first_warpgroup<Order>(shared, problem, work, share); },
             [&] { second_warpgroup(shared, problem, work, share); }, fetch);
  }
};

}  // namespace kv::cuda
