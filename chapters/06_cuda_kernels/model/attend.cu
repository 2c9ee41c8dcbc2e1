#include "chapters/06_cuda_kernels/model/attend.hpp"

#include "chapters/06_cuda_kernels/ladder/online_softmax.hpp"
#include "chapters/06_cuda_kernels/model/reduce.hpp"

namespace kv::cuda {
namespace {

constexpr int threads = 128, warps = threads / warp_threads;
constexpr int tile_heads = 8;   // of a group, that share what a block reads
constexpr int chunk = 32;       // tokens between two looks at the largest score; one for each lane

int tiles_of_group(int heads, int groups) { return (heads / groups + tile_heads - 1) / tile_heads; }

/// A block's shared memory.
struct Work {
  float* queries;  ///< (tile_heads,D)
  float* sums;     ///< (tile_heads,W), not yet normalised
  float* weights;  ///< (tile_heads,chunk)
  float* factors;  ///< (tile_heads), what a new chunk makes of the sums so far

  __device__ Work(float* memory, int D, int W)
      : queries(memory), sums(queries + tile_heads * D), weights(sums + tile_heads * W), factors(weights + tile_heads * chunk) {}
  static std::size_t bytes(int D, int W) { return sizeof(float) * tile_heads * (D + W + chunk + 1); }
};

/// Tokens first ... end-1 of a row, by which one block goes.
struct Range {
  int first, end;
};
__device__ Range share(int visible, int splits, int split) {
  const int each = (visible + splits - 1) / splits;
  return {min(visible, split * each), min(visible, (split + 1) * each)};
}

// [scores]
/// Scores of up to 32 tokens, a warp for each token, all heads from one reading of the key.
template <class T>
__device__ void score(const Attend<T>& p, const StoredRows<T>& keys, int sequence, int column, Range tokens, int heads, const Work& work) {
  const int warp = threadIdx.x / warp_threads, lane = threadIdx.x % warp_threads;
  for (int s = tokens.first + warp; s < tokens.end; s += warps) {
    const T* key = keys.row(sequence, s) + column;
    float dots[tile_heads] = {};
    for (int i = lane; i < p.key_width; i += warp_threads) {
      const float k = to_float(key[i]);
#pragma unroll
      for (int h = 0; h < tile_heads; ++h)
        if (h < heads) dots[h] += work.queries[h * p.key_width + i] * k;
    }
    if (heads == 1) dots[0] = warp_sum(dots[0]);  // the same in every lane
    const float dot = heads == 1 ? dots[0] : scatter_sums(dots);
    constexpr int lanes = warp_threads / tile_heads;  // that have the same sum
    if (lane % lanes == 0 && lane / lanes < heads) work.weights[lane / lanes * chunk + s - tokens.first] = dot * p.scale;
  }
}
// [scores]

// [weigh]
/// Scores become weights. A warp has the heads warp, warp + 4, and keeps their sums; its lanes have the tokens.
__device__ void weigh(int tokens, int heads, OnlineSoftmax (&softmax)[tile_heads / warps], const Work& work) {
  const int warp = threadIdx.x / warp_threads, lane = threadIdx.x % warp_threads;
#pragma unroll
  for (int i = 0; i < tile_heads / warps; ++i) {
    const int h = warp + i * warps;
    if (h >= heads) break;
    const float score = lane < tokens ? work.weights[h * chunk + lane] : -INFINITY;
    const float factor = softmax[i].renew(warp_max(score));
    const float weight = softmax[i].weight(score);
    softmax[i].sum += warp_sum(weight);
    work.weights[h * chunk + lane] = weight;
    if (lane == 0) work.factors[h] = factor;
  }
}
// [weigh]

// [sum]
/// A thread has columns threadIdx.x, + 128, ... of the values and reads each once for all heads.
template <class T>
__device__ void add_values(const Attend<T>& p, const StoredRows<T>& values, int sequence, int column, Range tokens, int heads, const Work& work) {
  for (int w = threadIdx.x; w < p.value_width; w += threads) {
    float sums[tile_heads];
#pragma unroll
    for (int h = 0; h < tile_heads; ++h) sums[h] = h < heads ? work.sums[h * p.value_width + w] * work.factors[h] : 0.0f;
    for (int s = tokens.first; s < tokens.end; ++s) {
      const float value = to_float(values.row(sequence, s)[column + w]);
#pragma unroll
      for (int h = 0; h < tile_heads; ++h)
        if (h < heads) sums[h] += work.weights[h * chunk + s - tokens.first] * value;
    }
#pragma unroll
    for (int h = 0; h < tile_heads; ++h)
      if (h < heads) work.sums[h * p.value_width + w] = sums[h];
  }
}
// [sum]

// [attend]
template <class T>
__global__ void __launch_bounds__(threads) attend_kernel(const Attend<T> p) {
  const int split = blockIdx.x, n = blockIdx.z, group = p.heads / p.groups;
  const int tiles = (group + tile_heads - 1) / tile_heads, g = blockIdx.y / tiles, first = blockIdx.y % tiles * tile_heads;
  const int heads = min(tile_heads, group - first), first_head = g * group + first;
  const int sequence = p.tokens.sequences[n];
  const Work work(dynamic_shared<float>(), p.key_width, p.value_width);

  const float* queries = p.queries + std::size_t(n) * p.query_row + first_head * p.key_width;
  for (int i = threadIdx.x; i < heads * p.key_width; i += threads) work.queries[i] = queries[i];
  for (int i = threadIdx.x; i < heads * p.value_width; i += threads) work.sums[i] = 0.0f;
  OnlineSoftmax softmax[tile_heads / warps];
  const Range all = share(p.tokens.positions[n] + 1, p.splits, split);  // the causal mask: itself and all before it
  for (Range now{all.first, 0}; now.first < all.end; now.first += chunk) {
    now.end = min(now.first + chunk, all.end);
    __syncthreads();
    score(p, p.keys, sequence, g * p.key_width, now, heads, work);
    __syncthreads();
    weigh(now.end - now.first, heads, softmax, work);
    __syncthreads();
    add_values(p, p.values, sequence, g * p.value_width, now, heads, work);
  }

  // Each warp says what the sums of its heads are to be multiplied by.
  const int warp = threadIdx.x / warp_threads;
  __syncthreads();
#pragma unroll
  for (int i = 0; i < tile_heads / warps; ++i) {
    const int h = warp + i * warps;
    if (h >= heads || threadIdx.x % warp_threads != 0) continue;
    work.factors[h] = softmax[i].normalisation();
    if (p.splits > 1) p.lse[(std::size_t(n) * p.heads + first_head + h) * p.splits + split] = softmax[i].log_sum_exp();
  }
  __syncthreads();
  float* to = p.splits > 1 ? p.partial : p.output;
  for (int i = threadIdx.x; i < heads * p.value_width; i += threads) {
    const int h = i / p.value_width, w = i % p.value_width;
    to[((std::size_t(n) * p.heads + first_head + h) * p.splits + split) * p.value_width + w] = work.sums[i] * work.factors[h];
  }
}
// [attend]

// [combine]
/// A part's weight is the share of its exponentials in the sum of all: a softmax over the log-sum-exps, which one warp takes.
template <class T>
__global__ void __launch_bounds__(threads) combine_kernel(const Attend<T> p) {
  float* const weights = dynamic_shared<float>();  // (splits)
  const std::size_t head = std::size_t(blockIdx.y) * p.heads + blockIdx.x;
  const float* lse = p.lse + head * p.splits;
  if (threadIdx.x < warp_threads) {
    float top = -INFINITY, sum = 0.0f;
    for (int k = threadIdx.x; k < p.splits; k += warp_threads) top = fmaxf(top, lse[k]);
    top = warp_max(top);  // of the first split, which has tokens, at least
    for (int k = threadIdx.x; k < p.splits; k += warp_threads) sum += weights[k] = expf(lse[k] - top);
    sum = warp_sum(sum);
    for (int k = threadIdx.x; k < p.splits; k += warp_threads) weights[k] /= sum;
  }
  __syncthreads();
  for (int w = threadIdx.x; w < p.value_width; w += threads) {
    float value = 0.0f;
#pragma unroll 8  // their reads do not wait for one another
    for (int k = 0; k < p.splits; ++k) value += weights[k] * p.partial[(head * p.splits + k) * p.value_width + w];
    p.output[head * p.value_width + w] = value;
  }
}
// [combine]

}  // namespace

int attend_splits(int rows, int heads, int groups, int capacity, int multiprocessors) {
  constexpr int least_tokens = 256;  // of a split: fewer are not worth the work of putting it together with others
  const int blocks = rows * groups * tiles_of_group(heads, groups);
  const int wanted = (2 * multiprocessors + blocks - 1) / blocks;
  return max(1, min(wanted, capacity / least_tokens));
}

template <class T>
void attend(const Attend<T>& problem, cudaStream_t stream) {
  if (problem.tokens.count == 0) return;
  const int tiles = problem.groups * tiles_of_group(problem.heads, problem.groups);
  const std::size_t shared = Work::bytes(problem.key_width, problem.value_width);
  launch({dim3(problem.splits, tiles, problem.tokens.count), threads, shared, stream}, attend_kernel<T>, problem);
  if (problem.splits > 1) launch({dim3(problem.heads, problem.tokens.count), threads, problem.splits * sizeof(float), stream}, combine_kernel<T>, problem);
}
template void attend(const Attend<float>&, cudaStream_t);
template void attend(const Attend<bf16>&, cudaStream_t);

}  // namespace kv::cuda
