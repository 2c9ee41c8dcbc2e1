#include "chapters/06_cuda_kernels/ladder/schedule.hpp"

#include "chapters/06_cuda_kernels/ladder/warp.hpp"
#include "common/cuda/memory.hpp"

namespace kv::cuda {
namespace {

constexpr int threads = 256;

/// Turns the pages of B sequences into offsets[b], the pages of all sequences before b, for b = 0 ... B. By one warp.
__device__ void add_up(int* offsets, int batch) {
  int total = 0;
  for (int first = 0; first <= batch; first += warp_threads) {
    const int b = first + threadIdx.x;
    const int pages = b < batch ? offsets[b] : 0;
    const int up_to_here = total + warp_running_sum(pages);
    if (b <= batch) offsets[b] = up_to_here - pages;
    total = __shfl_sync(all_lanes, up_to_here, warp_threads - 1);
  }
}

/// The sequence that has a page: the last one whose offset is not beyond it, which is never an empty one.
__device__ int sequence_of(const int* offsets, int batch, int page) {
  int low = 0, high = batch;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (offsets[middle] <= page)
      low = middle;
    else
      high = middle;
  }
  return low;
}

// [shares]
/// Share k of K begins with page floor(kN/K) of N ...
__device__ int first_page_of(int share, int pages, int share_count) {
  return int(static_cast<long long>(share) * pages / share_count);
}
/// ... so page p is in the last share k with kN/K < p+1.
__device__ int share_of(int page, int pages, int share_count) {
  return int((static_cast<long long>(page + 1) * share_count - 1) / pages);
}

__global__ void __launch_bounds__(threads)
    schedule_kernel(const int* lengths, int batch, const Schedule schedule) {
  int* const offsets = dynamic_shared<int>();  // (B+1)
  for (int b = threadIdx.x; b < batch; b += threads) offsets[b] = pages_of(lengths[b]);
  __syncthreads();
  if (threadIdx.x < warp_threads) add_up(offsets, batch);
  __syncthreads();
  const int N = offsets[batch];
  // None of these is empty, so the readers of a sequence are consecutive.
  const int K = min(schedule.share_count, N);
  for (int k = threadIdx.x; k < schedule.share_count; k += threads) {
    Share share{0, 0, -1, 0};
    if (k < K) {
      const int first = first_page_of(k, N, K), end = first_page_of(k + 1, N, K);
      share.first_sequence = sequence_of(offsets, batch, first);
      share.first_page = first - offsets[share.first_sequence];
      share.last_sequence = sequence_of(offsets, batch, end - 1);
      share.end_page = end - offsets[share.last_sequence];
    }
    schedule.shares[k] = share;
  }
  for (int b = threadIdx.x; b < batch; b += threads) {
    Readers readers{0, 0};
    if (offsets[b] < offsets[b + 1]) {
      readers.first = share_of(offsets[b], N, K);
      readers.count = share_of(offsets[b + 1] - 1, N, K) - readers.first + 1;
    }
    schedule.readers[b] = readers;
  }
}
// [shares]

}  // namespace

void make_schedule(const int* lengths, int batch, const Schedule& schedule, cudaStream_t stream) {
  launch({1, threads, (batch + 1) * sizeof(int), stream}, schedule_kernel, lengths, batch, schedule);
}

ScheduleOnHost schedule_on_host(std::span<const int> lengths, int share_count) {
  const int batch = int(lengths.size());
  Buffer<int> device_lengths(lengths);
  Buffer<Share> shares(share_count);
  Buffer<Readers> readers(batch);
  make_schedule(device_lengths.data(), batch, {shares.data(), readers.data(), share_count}, nullptr);
  return {shares.download(), readers.download()};
}

}  // namespace kv::cuda
