#include "chapters/06_cuda_kernels/bench/random.hpp"

#include <algorithm>
#include <cmath>

namespace kv::cuda {
namespace {

constexpr int threads = 256;
constexpr std::size_t most_blocks = 1 << 16;

__device__ float uniform(std::uint64_t seed, std::uint64_t place) {
  std::uint64_t x = seed + place * 0x9e3779b97f4a7c15u;  // SplitMix64
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return ((x ^ x >> 31) >> 40) * 0x1p-23f - 1.0f;
}

template <class T>
__global__ void __launch_bounds__(threads) fill_kernel(T* data, std::size_t count, float spread, std::uint64_t seed) {
  for (std::size_t i = std::size_t(blockIdx.x) * threads + threadIdx.x; i < count; i += std::size_t(gridDim.x) * threads)
    store(data[i], spread * uniform(seed, i));
}

template <class T>
void fill(T* data, std::size_t count, float spread, std::uint64_t seed, cudaStream_t stream) {
  if (count == 0) return;
  const std::size_t blocks = std::min((count + threads - 1) / threads, most_blocks);
  launch({static_cast<unsigned>(blocks), threads, 0, stream}, fill_kernel<T>, data, count, spread, seed);
}

}  // namespace

void fill_random(bf16* data, std::size_t count, float spread, std::uint64_t seed, cudaStream_t stream) { fill(data, count, spread, seed, stream); }
void fill_random(float* data, std::size_t count, float spread, std::uint64_t seed, cudaStream_t stream) { fill(data, count, spread, seed, stream); }

Matrix random_matrix(index_t rows, index_t columns, std::uint64_t seed) {
  if (columns % 8 != 0) throw std::invalid_argument("random_matrix: " + std::to_string(columns) + " columns, no multiple of 8: the padding must stay zero");
  Matrix matrix(Format::bf16, rows, columns);
  const float spread = std::sqrt(3.0f / static_cast<float>(columns));  // variance 1/columns
  fill_random(static_cast<bf16*>(matrix.data()), rows * columns, spread, seed, nullptr);
  return matrix;
}

}  // namespace kv::cuda
