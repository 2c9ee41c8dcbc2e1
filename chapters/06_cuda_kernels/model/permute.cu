#include "chapters/06_cuda_kernels/model/permute.hpp"

#include "chapters/06_cuda_kernels/ladder/warp.hpp"

namespace kv::cuda {
namespace {

constexpr int sort_threads = 512, sort_warps = sort_threads / warp_threads;

// [sort]
/// One block. Each warp looks through all visits for one expert after the other, 32 at a time, and every lane counts those
/// before its own. So a token's place among the rows of an expert does not depend on who comes first.
__global__ void __launch_bounds__(sort_threads) sort_kernel(const int* chosen_experts, int visits, int chosen, int experts, const Permutation p) {
  int* const counts = dynamic_shared<int>();  // (E), then where the rows of each expert begin
  const int warp = threadIdx.x / warp_threads, lane = threadIdx.x % warp_threads;
  const auto visits_of = [&](int e, int first) {  // one bit for each lane
    const int v = first + lane;
    return __ballot_sync(all_lanes, v < visits && chosen_experts[v] == e);
  };
  for (int e = warp; e < experts; e += sort_warps) {
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
  for (int e = warp; e < experts; e += sort_warps) {
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

constexpr int gather_threads = 128;

// [gather]
/// A thread has one column of one token.
__global__ void __launch_bounds__(gather_threads)
    gather_kernel(const Choices choices, const int* row_of_visit, const float* outputs, int chosen, int width, float* y) {
  const std::size_t n = blockIdx.y;
  const int m = blockIdx.x * gather_threads + threadIdx.x;
  if (m >= width) return;
  float sum = 0.0f;
#pragma unroll 8  // what is read does not depend on the sum: eight at a time
  for (int k = 0; k < chosen; ++k)
    sum += choices.weights[n * chosen + k] * outputs[std::size_t(row_of_visit[n * chosen + k]) * width + m];
  y[n * width + m] = sum;
}
// [gather]

}  // namespace

void sort_by_expert(const Choices& choices, int rows, int chosen, int experts, const Permutation& permutation, cudaStream_t stream) {
  launch({1, sort_threads, experts * sizeof(int), stream}, sort_kernel, choices.experts, rows * chosen, chosen, experts, permutation);
}

void gather_visits(const Choices& choices, const Permutation& permutation, const float* outputs, int rows, int chosen, int width,
                   float* y, cudaStream_t stream) {
  if (rows == 0) return;
  const dim3 grid((width + gather_threads - 1) / gather_threads, rows);
  launch({grid, gather_threads, 0, stream}, gather_kernel, choices, permutation.row_of_visit, outputs, chosen, width, y);
}

}  // namespace kv::cuda
