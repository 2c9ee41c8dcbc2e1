#include "chapters/06_cuda_kernels/ladder/four_columns.hpp"
#include "chapters/06_cuda_kernels/ladder/online_softmax.hpp"
#include "chapters/06_cuda_kernels/ladder/split.hpp"

namespace kv::cuda {
namespace {

constexpr int threads = 128;
static_assert(threads * 4 == value_width, "each thread sums four columns");

// [combine]
/// A part's weight is the share of its exponentials in the sum of all: a softmax over the log-sum-exps.
__global__ void __launch_bounds__(threads) combine_kernel(const MlaDecode problem, const SplitWork work) {
  const int h = blockIdx.x, b = blockIdx.y;
  const Readers readers = work.schedule.readers[b];
  if (readers.count == 1) return;  // that one has written the result
  OnlineSoftmax softmax;
  FourColumns value;
  for (int k = readers.first; k < readers.first + readers.count; ++k) {
    const Partial part = partial_place(work, k, b, problem.heads);
    value.scale(softmax.renew(part.lse[h]));
    const float weight = softmax.weight(part.lse[h]);
    softmax.sum += weight;
    value.add(weight, reinterpret_cast<const float4*>(part.values + h * value_width)[threadIdx.x]);
  }
  value.scale(softmax.normalisation());
  value.store(problem.output + problem.place(b, h) * value_width, threadIdx.x);
  if (threadIdx.x == 0) problem.lse[problem.place(b, h)] = softmax.log_sum_exp();
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
  schedule.offsets = carver.take<int>(problem.batch + 1);
  schedule.share_count = share_count;
  values = carver.take<float>(std::size_t(2) * share_count * problem.heads * value_width);
  lse = carver.take<float>(std::size_t(2) * share_count * problem.heads);
  bytes = carver.used;
}

void combine(const MlaDecode& problem, const SplitWork& work, cudaStream_t stream) {
  launch({dim3(problem.heads, problem.batch), threads, 0, stream}, combine_kernel, problem, work);
}

}  // namespace kv::cuda
