#include "chapters/06_cuda_kernels/model/route.hpp"

#include <algorithm>

#include "chapters/06_cuda_kernels/ladder/warp.hpp"

namespace kv::cuda {
namespace {

constexpr int warps = 16;  // of a block, a token for each

/// What has become of an expert or a group.
enum Fate : unsigned char { free_to_take, taken, left_out };

/// A token's numbers, in shared memory.
struct Scores {
  float *weights, *choice, *groups;  ///< (E) what an expert counts, (E) what the choice looks at, (groups)
  Fate *experts, *group_fates;       ///< (E), (groups)

  __device__ Scores(float* memory, const Router& r)
      : weights(memory), choice(weights + r.experts), groups(choice + r.experts),
        experts(reinterpret_cast<Fate*>(groups + r.groups)), group_fates(experts + r.experts) {}
  __host__ __device__ static std::size_t bytes(const Router& r) { return (9 * r.experts + 5 * r.groups + 15) / 16 * 16; }
};

/// A place and what is there; place `count`: nowhere yet.
struct Best {
  float score;
  int place;
};

/// Of two, the larger score; of equals the lower place, as on the CPU.
__device__ Best better(const Best& a, const Best& b, int count) {
  if (b.place == count) return a;
  return a.place == count || b.score > a.score || (b.score == a.score && b.place < a.place) ? b : a;
}

// [take]
/// Takes the best that is free. All lanes learn which: lane 0's opinion, so that not even NaN makes them disagree.
__device__ void take_best(const float* scores, Fate* fates, int count) {
  Best best{0.0f, count};
  for (int i = threadIdx.x; i < count; i += warp_threads)
    if (fates[i] == free_to_take) best = better(best, {scores[i], i}, count);
#pragma unroll
  for (int offset = warp_threads / 2; offset > 0; offset /= 2)
    best = better(best, {__shfl_xor_sync(all_lanes, best.score, offset), __shfl_xor_sync(all_lanes, best.place, offset)}, count);
  __syncwarp();  // shuffles order no memory: all lanes must have looked before one writes
  if (threadIdx.x == 0) fates[best.place] = taken;
  __syncwarp();
}
// [take]

// [scores]
__device__ void make_scores(const Router& r, const float* logits, const Scores& scores) {
  if (r.scores == RoutingRule::Scores::softmax) {
    float top = -INFINITY, sum = 0.0f;
    for (int e = threadIdx.x; e < r.experts; e += warp_threads) top = fmaxf(top, logits[e]);
    top = warp_max(top);
    for (int e = threadIdx.x; e < r.experts; e += warp_threads) sum += expf(logits[e] - top);
    sum = warp_sum(sum);
    for (int e = threadIdx.x; e < r.experts; e += warp_threads) scores.weights[e] = expf(logits[e] - top) / sum;
  } else {
    const bool sigmoid = r.scores == RoutingRule::Scores::sigmoid_with_bias;
    for (int e = threadIdx.x; e < r.experts; e += warp_threads)
      scores.weights[e] = sigmoid ? 1.0f / (1.0f + expf(-logits[e])) : logits[e];
  }
  for (int e = threadIdx.x; e < r.experts; e += warp_threads)  // a lane reads what it has written
    scores.choice[e] = scores.weights[e] + (r.bias ? r.bias[e] : 0.0f);  // the bias decides who is chosen, not how much it counts
  __syncwarp();
}
// [scores]

/// What one group counts: its best expert, or the sum of its two best. By one lane.
__device__ float group_score(const Router& r, const float* choice, int size) {
  float best = -INFINITY, second = -INFINITY;
  for (int i = 0; i < size; ++i) {
    if (choice[i] > best) {
      second = best;
      best = choice[i];
    } else if (choice[i] > second) {
      second = choice[i];
    }
  }
  const bool two = r.scores == RoutingRule::Scores::sigmoid_with_bias && size > 1;
  return two ? best + second : best;
}

// [groups]
/// Experts outside the `kept` best groups are left out, whatever their score: 0 in its place would win over a negative one.
__device__ void limit_groups(const Router& r, const Scores& scores) {
  const int size = r.experts / r.groups;
  if (r.kept == r.groups) {
    for (int e = threadIdx.x; e < r.experts; e += warp_threads) scores.experts[e] = free_to_take;
    __syncwarp();
    return;
  }
  for (int g = threadIdx.x; g < r.groups; g += warp_threads) {
    scores.groups[g] = group_score(r, scores.choice + g * size, size);
    scores.group_fates[g] = free_to_take;
  }
  __syncwarp();
  for (int k = 0; k < r.kept; ++k) take_best(scores.groups, scores.group_fates, r.groups);
  for (int e = threadIdx.x; e < r.experts; e += warp_threads)
    scores.experts[e] = scores.group_fates[e / size] == taken ? free_to_take : left_out;
  __syncwarp();
}
// [groups]

// [factors]
/// The factors of the chosen, by one lane: K is small, and the sums run over ascending experts as on the CPU.
__device__ void make_factors(const Router& r, float* weights) {
  float sum = 0.0f;
  if (r.scores == RoutingRule::Scores::softmax_of_chosen) {
    float top = weights[0];
    for (int k = 1; k < r.chosen; ++k) top = fmaxf(top, weights[k]);
    for (int k = 0; k < r.chosen; ++k) sum += weights[k] = expf(weights[k] - top);
  } else if (r.normalised) {
    for (int k = 0; k < r.chosen; ++k) sum += weights[k];
    sum += r.scores == RoutingRule::Scores::sigmoid_with_bias ? 1e-20f : 0.0f;
  } else {
    sum = 1.0f;
  }
  for (int k = 0; k < r.chosen; ++k) weights[k] = weights[k] / sum * r.scaling;
}
// [factors]

// [choose]
/// The experts of token n, by one warp.
__device__ void choose(const Router& r, const float* logits, std::size_t n, const Scores& scores, const Choices& choices) {
  logits += n * r.logits;
  make_scores(r, logits, scores);
  limit_groups(r, scores);
  for (int k = 0; k < r.chosen; ++k) take_best(scores.choice, scores.experts, r.experts);

  int* experts = choices.experts + n * r.all_chosen();
  float* weights = choices.weights + n * r.all_chosen();
  for (int first = 0, found = 0; first < r.experts; first += warp_threads) {  // ascending
    const int e = first + threadIdx.x;
    const bool chosen = e < r.experts && scores.experts[e] == taken;
    const unsigned who = __ballot_sync(all_lanes, chosen), before = who & ((1u << threadIdx.x) - 1);
    if (chosen) {
      experts[found + __popc(before)] = e;
      weights[found + __popc(before)] = scores.weights[e];
    }
    found += __popc(who);
  }
  __syncwarp();
  if (threadIdx.x == 0) make_factors(r, weights);
  for (int i = threadIdx.x; i < r.shared; i += warp_threads) {
    experts[r.chosen + i] = r.experts + i;
    weights[r.chosen + i] = r.logits > r.experts ? 1.0f / (1.0f + expf(-logits[r.experts])) : 1.0f;
  }
}
// [choose]

// [sort]
/// By one block. Each warp looks through all visits for one expert after the other, 32 at a time, and every lane counts those
/// before its own. So a token's place among the rows of an expert does not depend on who comes first.
/// @param counts (E), in the end where the rows of each expert begin
__device__ void sort_by_expert(const int* chosen_experts, int visits, int chosen, int experts, int* counts, const Permutation& p) {
  const int warp = threadIdx.y, lane = threadIdx.x;
  const auto visits_of = [&](int e, int first) {  // one bit for each lane
    const int v = first + lane;
    return __ballot_sync(all_lanes, v < visits && chosen_experts[v] == e);
  };
  for (int e = warp; e < experts; e += warps) {
    int count = 0;
    for (int first = 0; first < visits; first += warp_threads) count += __popc(visits_of(e, first));
    if (lane == 0) counts[e] = count;
  }
  __syncthreads();
  if (warp == 0) {
    int rows = 0, used = 0;
    for (int first = 0; first < experts; first += warp_threads) {
      const int e = first + lane, count = e < experts ? counts[e] : 0;
      const int rows_to_here = rows + warp_running_sum(count), used_to_here = used + warp_running_sum(count > 0 ? 1 : 0);
      if (e < experts) p.offsets[e] = counts[e] = rows_to_here - count;
      if (count > 0) p.active[used_to_here - 1] = e;
      rows = __shfl_sync(all_lanes, rows_to_here, warp_threads - 1);
      used = __shfl_sync(all_lanes, used_to_here, warp_threads - 1);
    }
    if (lane == 0) p.offsets[experts] = rows;
    for (int i = used + lane; i < experts; i += warp_threads) p.active[i] = -1;
  }
  __syncthreads();
  for (int e = warp; e < experts; e += warps) {
    int row = counts[e];
    for (int first = 0; first < visits; first += warp_threads) {
      const unsigned who = visits_of(e, first);
      if (who >> lane & 1u) {
        const int v = first + lane, place = row + __popc(who & ((1u << lane) - 1));
        p.token_of_row[place] = v / chosen;
        p.row_of_visit[v] = place;
      }
      row += __popc(who);
    }
  }
}
// [sort]

// [route]
/// A block chooses for 16 tokens. The last one to be through sorts all of them: what others have written can be read then.
__global__ void __launch_bounds__(warps* warp_threads)
    route_kernel(const Router r, const float* logits, int rows, const Choices choices, const Permutation p, unsigned* arrived) {
  __shared__ bool last;
  let_next_grid_begin();
  wait_for_last_grid();
  const int n = blockIdx.x * warps + threadIdx.y;
  const Scores scores(dynamic_shared<float>() + threadIdx.y * Scores::bytes(r) / sizeof(float), r);
  if (n < rows) choose(r, logits, n, scores, choices);
  __syncthreads();
  if (threadIdx.x == 0 && threadIdx.y == 0) {
    __threadfence();
    last = atomicInc(arrived, gridDim.x - 1) == gridDim.x - 1;  // which makes it 0 again
    __threadfence();
  }
  __syncthreads();
  if (!last) return;
  sort_by_expert(choices.experts, rows * r.all_chosen(), r.all_chosen(), r.all_experts(), dynamic_shared<int>(), p);
}
// [route]

}  // namespace

Router router(const RoutingRule& rule, const float* bias, int shared) {
  require_published(rule);
  return {.scores = rule.scores,
          .experts = static_cast<int>(rule.experts),
          .chosen = static_cast<int>(rule.chosen),
          .groups = static_cast<int>(rule.limit.groups),
          .kept = static_cast<int>(rule.limit.kept),
          .normalised = rule.normalised,
          .scaling = rule.scaling,
          .bias = bias,
          .shared = shared,
          .logits = static_cast<int>(rule.experts)};
}

void route(const Router& router, const float* logits, int rows, const Choices& choices, const Permutation& permutation,
           unsigned* arrived, cudaStream_t stream) {
  if (rows == 0) return;
  const std::size_t shared = std::max(warps * Scores::bytes(router), router.all_experts() * sizeof(int));
  launch({(rows + warps - 1) / warps, dim3(warp_threads, warps), shared, stream, 1, true}, route_kernel, router, logits, rows, choices,
         permutation, arrived);
}

}  // namespace kv::cuda
