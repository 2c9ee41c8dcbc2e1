#include "chapters/06_cuda_kernels/model/permute.hpp"

#include "chapters/06_cuda_kernels/ladder/warp.hpp"

namespace kv::cuda {
namespace {

constexpr int sort_threads = 256;

// [sort]
/// One block; a thread has experts threadIdx.x, + 256, ... and looks through all visits for each. There are few: N*K.
/// So a token's place among the rows of an expert does not depend on who comes first.
__global__ void __launch_bounds__(sort_threads) sort_kernel(const int* chosen_experts, int visits, int chosen, int experts, const Permutation p) {
  for (int e = threadIdx.x; e < experts; e += sort_threads) {
    int count = 0;
    for (int v = 0; v < visits; ++v) count += chosen_experts[v] == e;
    p.offsets[e + 1] = count;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    int used = 0;
    p.offsets[0] = 0;
    for (int e = 0; e < experts; ++e) {
      if (p.offsets[e + 1] > 0) p.active[used++] = e;
      p.offsets[e + 1] += p.offsets[e];
    }
    for (; used < experts; ++used) p.active[used] = -1;
  }
  __syncthreads();
  for (int e = threadIdx.x; e < experts; e += sort_threads) {
    int row = p.offsets[e];
    for (int v = 0; v < visits; ++v) {
      if (chosen_experts[v] != e) continue;
      p.token_of_row[row] = v / chosen;
      p.row_of_visit[v] = row++;
    }
  }
}
// [sort]

constexpr int gather_threads = 128;

// [gather]
__global__ void __launch_bounds__(gather_threads)
    gather_kernel(const Choices choices, const int* row_of_visit, const float* outputs, const float* shared, int chosen, int width, float* y) {
  const std::size_t n = blockIdx.x;
  for (int m = threadIdx.x; m < width; m += gather_threads) {
    float sum = 0.0f;
    for (int k = 0; k < chosen; ++k)
      sum += choices.weights[n * chosen + k] * outputs[std::size_t(row_of_visit[n * chosen + k]) * width + m];
    y[n * width + m] = shared ? sum + shared[n * width + m] : sum;
  }
}
// [gather]

}  // namespace

void sort_by_expert(const Choices& choices, int rows, int chosen, int experts, const Permutation& permutation, cudaStream_t stream) {
  launch({1, sort_threads, 0, stream}, sort_kernel, choices.experts, rows * chosen, chosen, experts, permutation);
}

void gather_visits(const Choices& choices, const Permutation& permutation, const float* outputs, const float* shared,
                   int rows, int chosen, int width, float* y, cudaStream_t stream) {
  if (rows == 0) return;
  launch({rows, gather_threads, 0, stream}, gather_kernel, choices, permutation.row_of_visit, outputs, shared, chosen, width, y);
}

}  // namespace kv::cuda
