#include <algorithm>
#include <utility>

#include "chapters/06_cuda_kernels/ladder/four_columns.hpp"
#include "chapters/06_cuda_kernels/ladder/online_softmax.hpp"
#include "chapters/06_cuda_kernels/ladder/split.hpp"
#include "chapters/06_cuda_kernels/ladder/warp.hpp"

namespace kv::cuda {
namespace {

constexpr int team_threads = value_width / 4, most_teams = 4;  // a thread has four columns

/// A weighted mean of rows, and the log-sum-exp that it counts with.
struct Part {
  FourColumns value;
  float lse;
};

// [combine]
/// A part's weight is the share of its exponentials in the sum of all: a softmax over the
/// log-sum-exps.
template <class PartAt>
__device__ Part mix(int first, int end, int step, const PartAt& part_at) {
  OnlineSoftmax softmax;
  FourColumns value;
#pragma unroll 4  // their reads do not wait for one another
  for (int k = first; k < end; k += step) {
    const auto [four, lse] = part_at(k);
    value.scale(softmax.renew(lse));
    const float weight = softmax.weight(lse);
    softmax.sum += weight;
    value.add(weight, four);
  }
  value.scale(softmax.normalisation());
  return {value, softmax.log_sum_exp()};
}

/// A sequence of a small batch has parts on many multiprocessors. So there are teams, each mixes
/// its share of them, and the results are parts again.
__global__ void __launch_bounds__(most_teams* team_threads)
    combine_kernel(const MlaDecode problem, const SplitWork work) {
  __shared__ float4 values[most_teams][team_threads];
  __shared__ float lses[most_teams];
  const int h = blockIdx.x, b = blockIdx.y, team = threadIdx.x / team_threads,
            t = threadIdx.x % team_threads;
  const int teams = blockDim.x / team_threads;
  const Readers readers = work.schedule.readers[b];
  if (readers.count == 1) return;  // that one has written the result
  const Part own = mix(readers.first + team, readers.first + readers.count, teams, [&](int k) {
    const Partial part = partial_place(work, k, b, problem.heads);
    return std::pair{reinterpret_cast<const float4*>(part.values + h * value_width)[t],
                     part.lse[h]};
  });
  values[team][t] = own.value.as_float4();
  if (t == 0) lses[team] = own.lse;
  __syncthreads();
  if (team != 0) return;
  const Part all = mix(0, min(teams, readers.count), 1, [&](int i) {
    return std::pair{values[i][t], lses[i]};
  });
  all.value.store(problem.output + problem.place(b, h) * value_width, t);
  if (t == 0) problem.lse[problem.place(b, h)] = all.lse;
}
// [combine]

/// Takes pieces of the workspace, each where a cache line begins.
struct Carver {
  std::uintptr_t begin;  // 0 when only the size is asked for
  std::size_t used = 0;

  template <class T>
  T* take(std::size_t count) {
    T* const piece = reinterpret_cast<T*>(begin + used);
    used += (count * sizeof(T) + 255) / 256 * 256;
    return piece;
  }
};

}  // namespace

SplitWork::SplitWork(const MlaDecode& problem, int share_count, void* workspace) {
  Carver carver{reinterpret_cast<std::uintptr_t>(workspace)};
  schedule.shares = carver.take<Share>(share_count);
  schedule.readers = carver.take<Readers>(problem.batch);
  schedule.share_count = share_count;
  values = carver.take<float>(std::size_t(2) * share_count * problem.heads * value_width);
  lse = carver.take<float>(std::size_t(2) * share_count * problem.heads);
  bytes = carver.used;
}

void combine(const MlaDecode& problem, const SplitWork& work, cudaStream_t stream) {
  const int parts = work.schedule.share_count / problem.batch;  // of a sequence, if they are equally long
  const int teams = std::clamp(parts / 8, 1, most_teams);
  launch({dim3(problem.heads, problem.batch), teams * team_threads, 0, stream}, combine_kernel, problem, work);
}

}  // namespace kv::cuda
