#include <utility>

#include "chapters/06_cuda_kernels/bench/bench.hpp"
#include "chapters/06_cuda_kernels/bench/cublas.hpp"
#include "chapters/06_cuda_kernels/bench/random.hpp"
#include "chapters/06_cuda_kernels/bench/timing.hpp"
#include "chapters/06_cuda_kernels/model/linear.hpp"
#include "common/cuda/device_properties.hpp"

namespace kv::cuda {
namespace {

constexpr int threads = 256;
constexpr int in_flight = 4;  // loads of 16 bytes that a thread does not wait for

__global__ void __launch_bounds__(threads) copy_kernel(const uint4* from, uint4* to, std::size_t count) {
  const std::size_t step = std::size_t(gridDim.x) * threads;
  for (std::size_t i = std::size_t(blockIdx.x) * threads + threadIdx.x; i < count; i += in_flight * step) {
    uint4 pieces[in_flight];
#pragma unroll
    for (int k = 0; k < in_flight; ++k)
      if (i + k * step < count) pieces[k] = from[i + k * step];
#pragma unroll
    for (int k = 0; k < in_flight; ++k)
      if (i + k * step < count) to[i + k * step] = pieces[k];
  }
}

/// Nobody wants the sum. But a compiler would leave out loads that nothing depends on.
__global__ void __launch_bounds__(threads) read_kernel(const uint4* from, unsigned* sums, std::size_t count) {
  const std::size_t step = std::size_t(gridDim.x) * threads, thread = std::size_t(blockIdx.x) * threads + threadIdx.x;
  unsigned sum = 0;
  for (std::size_t i = thread; i < count; i += in_flight * step) {
    uint4 pieces[in_flight] = {};
#pragma unroll
    for (int k = 0; k < in_flight; ++k)
      if (i + k * step < count) pieces[k] = from[i + k * step];
#pragma unroll
    for (int k = 0; k < in_flight; ++k) sum += pieces[k].x + pieces[k].y + pieces[k].z + pieces[k].w;
  }
  sums[thread] = sum;
}

/// The two bandwidths; the first is copy's.
std::pair<double, double> memory_bytes_per_s(Stream& stream, const BenchSizes& sizes) {
  const std::size_t count = sizes.copy_bytes / sizeof(uint4);
  const unsigned blocks = static_cast<unsigned>(8 * device_properties().multiprocessors);
  Buffer<uint4> from(count), to(count);
  Buffer<unsigned> sums(std::size_t(blocks) * threads);
  fill_random(reinterpret_cast<float*>(from.data()), 4 * count, 1.0f, 1, stream.get());
  const Launch shape{blocks, threads, 0, stream.get()};
  const double copying = median_microseconds(stream, sizes.rounds, 1, [&](int) {
    launch(shape, copy_kernel, from.data(), to.data(), count);
  });
  const double reading = median_microseconds(stream, sizes.rounds, 1, [&](int) {
    launch(shape, read_kernel, from.data(), sums.data(), count);
  });
  const double bytes = static_cast<double>(count * sizeof(uint4));
  return {2.0 * bytes / copying * 1e6, bytes / reading * 1e6};
}

double products(int size) { return 2.0 * size * size * static_cast<double>(size); }

double our_flop_per_s(Stream& stream, const BenchSizes& sizes) {
  const index_t size = static_cast<index_t>(sizes.matrix_size);
  const Matrix weights = random_matrix(size, size, 2);
  Buffer<float> x(size * size), y(size * size);
  fill_random(x.data(), x.size(), 1.0f, 3, nullptr);
  check(cudaDeviceSynchronize(), "our_flop_per_s");
  const double microseconds = median_microseconds(stream, sizes.rounds, 1, [&](int) {
    // One head, which is the whole matrix: linear() would ask the library.
    linear_heads(weights, 1, RowsIn{x.data(), sizes.matrix_size}, RowsOut{y.data(), sizes.matrix_size},
                 {.rows = sizes.matrix_size, .outputs = sizes.matrix_size, .x_step = 0, .y_step = 0}, stream.get());
  });
  return products(sizes.matrix_size) / microseconds * 1e6;
}

std::optional<double> library_flop_per_s(Stream& stream, const BenchSizes& sizes) {
  if (!has_cublas()) return std::nullopt;
  CublasProduct product(sizes.matrix_size);
  const double microseconds = median_microseconds(stream, sizes.rounds, 1, [&](int) { product.queue(stream.get()); });
  return products(sizes.matrix_size) / microseconds * 1e6;
}

}  // namespace

BenchSizes full_bench() { return {.copy_bytes = std::size_t{2} << 30, .matrix_size = 8192, .rounds = 21, .decode_steps = 32}; }
BenchSizes tiny_bench() { return {.copy_bytes = 40'000, .matrix_size = 96, .rounds = 2, .decode_steps = 2}; }

Machine machine() {
  const DeviceProperties& device = device_properties();
  return {.name = device.name,
          .is_cpu = device_is_cpu(),
          .capability = device.capability,
          .multiprocessors = device.multiprocessors,
          .driver_version = device.driver_version,
          .runtime_version = device.runtime_version,
          .memory_bytes = device.memory_bytes,
          .l2_bytes = device.l2_bytes};
}

Ceilings measure_ceilings(const BenchSizes& sizes) {
  Stream stream;
  const auto [copy, read] = memory_bytes_per_s(stream, sizes);
  return {.copy_bytes_per_s = copy,
          .read_bytes_per_s = read,
          .library_flop_per_s = library_flop_per_s(stream, sizes),
          .our_flop_per_s = our_flop_per_s(stream, sizes)};
}

}  // namespace kv::cuda
