/// @file
/// The host side of common/cuda: launches, buffers, streams, events, graphs, and their errors.
#include <numeric>
#include <vector>

#include "common/cuda/device.hpp"
#include "common/cuda/device_properties.hpp"
#include "common/cuda/memory.hpp"
#include "common/cuda/stream.hpp"
#include "tests/support/catch.hpp"

using namespace kv::cuda;

namespace {

struct Place {
  unsigned thread[3], block[3], threads[3], blocks[3];
};

__global__ void where_am_i(Place* out) {
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  out[block * blockDim.x * blockDim.y * blockDim.z + thread] = {{threadIdx.x, threadIdx.y, threadIdx.z},
                                                                {blockIdx.x, blockIdx.y, blockIdx.z},
                                                                {blockDim.x, blockDim.y, blockDim.z},
                                                                {gridDim.x, gridDim.y, gridDim.z}};
}

__global__ void add(float* numbers, float value, int count) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < count) numbers[i] += value;
}

__global__ void reverse_in_shared(float* numbers) {
  float* slots = dynamic_shared<float>();
  for (unsigned i = threadIdx.x; i < 40000; i += blockDim.x) slots[i] = numbers[i];
  __syncthreads();
  for (unsigned i = threadIdx.x; i < 40000; i += blockDim.x) numbers[i] = slots[39999 - i];
}

std::vector<float> ascending(std::size_t count) {
  std::vector<float> numbers(count);
  std::iota(numbers.begin(), numbers.end(), 0.0f);
  return numbers;
}

Buffer<float> on_device(const std::vector<float>& host) { return Buffer<float>(std::span<const float>(host)); }

}  // namespace

TEST_CASE("every thread knows its place", "[cuda]") {
  const dim3 grid(3, 2, 2), block(8, 4, 2);
  Buffer<Place> places(12 * 64);
  launch({grid, block}, where_am_i, places.data());
  const std::vector<Place> found = places.download();
  for (unsigned i = 0; i < found.size(); ++i) {
    const unsigned thread = i % 64, number = i / 64;
    const unsigned expected[] = {thread % 8, thread / 8 % 4, thread / 32, number % 3, number / 3 % 2, number / 6,
                                 8, 4, 2, 3, 2, 2};
    const auto* numbers = reinterpret_cast<const unsigned*>(&found[i]);
    CHECK(std::equal(expected, expected + 12, numbers));
  }
}

TEST_CASE("launch converts arguments to the kernel's parameters", "[cuda]") {
  Buffer<float> numbers = on_device(ascending(10));
  const std::size_t count = 10;
  launch({1, 32}, add, numbers.data(), 2, count);
  CHECK(numbers.download()[9] == 11);
}

TEST_CASE("launches that no GPU accepts throw, and the next one works", "[cuda]") {
  Buffer<float> numbers = on_device(ascending(10));
  const auto start = [&](dim3 grid, dim3 block, std::size_t shared) {
    launch({grid, block, shared}, add, numbers.data(), 1.0f, 10);
  };
  CHECK_THROWS_AS(start(1, 1025, 0), CudaError);
  CHECK_THROWS_AS(start(1, dim3(32, 32, 2), 0), CudaError);
  CHECK_THROWS_AS(start(1, dim3(1, 1, 65), 0), CudaError);
  CHECK_THROWS_AS(start(1, 0, 0), CudaError);
  CHECK_THROWS_AS(start(0, 32, 0), CudaError);
  CHECK_THROWS_AS(start(dim3(1, 65536), 32, 0), CudaError);
  CHECK_THROWS_AS(start(1, 32, std::size_t{300} * 1024), CudaError);
  start(1, 1024, 0);
  CHECK(numbers.download()[3] == 4);
}

TEST_CASE("a launch's error says what it was", "[cuda]") {
  Buffer<float> numbers(32);
  CHECK_THROWS_WITH(launch({1, 2000}, add, numbers.data(), 1.0f, 10),
                    "launch: invalid argument");
}

TEST_CASE("more than 48 KiB of shared memory", "[cuda]") {
  if (device_properties().shared_bytes_per_block < 160000) {
    WARN("skipped: this GPU has less shared memory");
    return;
  }
  Buffer<float> numbers = on_device(ascending(40000));
  launch({1, 256, 160000}, reverse_in_shared, numbers.data());
  CHECK(numbers.download()[1] == 39998);
}

TEST_CASE("Buffer: sizes are checked", "[cuda]") {
  Buffer<float> buffer(4);
  CHECK_THROWS_WITH(buffer.upload(ascending(5)), "Buffer has 4 elements, asked for 5");
  Buffer<float> empty(0), moved = std::move(buffer);
  CHECK(empty.download().empty());
  CHECK(moved.size() == 4);
  CHECK(buffer.size() == 0);
  CHECK_THROWS_AS(Buffer<float>(std::size_t{1} << 60), CudaError);
}

TEST_CASE("a stream keeps its order, events measure", "[cuda]") {
  Stream stream;
  Buffer<float> numbers(1000);
  const std::vector<float> host = ascending(1000);
  std::vector<float> result(1000);
  Event start, stop;
  start.record(stream.get());
  numbers.upload(host, stream.get());
  for (int i = 0; i < 5; ++i) launch({8, 128, 0, stream.get()}, add, numbers.data(), 1.0f, 1000);
  numbers.download(result, stream.get());
  stop.record(stream.get());
  stream.synchronize();
  CHECK(stop.milliseconds_since(start) >= 0);
  for (int i = 0; i < 1000; ++i) CHECK(result[i] == static_cast<float>(i + 5));
}

TEST_CASE("a graph records, and replays with what its memory holds then", "[cuda]") {
  Stream stream;
  Buffer<float> numbers = on_device(ascending(64));
  std::vector<float> in(64, 100.0f), out(64);
  Graph graph(stream, [&] {
    numbers.upload(in, stream.get());
    launch({1, 64, 0, stream.get()}, add, numbers.data(), 1.0f, 64);
    launch({1, 64, 0, stream.get()}, add, numbers.data(), 2.0f, 64);
    numbers.download(out, stream.get());
  });
  CHECK(numbers.download()[5] == 5);  // recording is not running
  graph.replay(stream);
  stream.synchronize();
  CHECK(out[5] == 103);
  in.assign(64, 200.0f);
  graph.replay(stream);
  graph.replay(stream);
  stream.synchronize();
  CHECK(out[5] == 203);
}

TEST_CASE("a graph refuses what a recording does not allow, and leaves the stream usable", "[cuda]") {
  Stream stream;
  Buffer<float> numbers = on_device(ascending(64));
  CHECK_THROWS_AS(Graph(stream, [&] { Buffer<float> more(10); }), CudaError);
  CHECK_THROWS_AS(Graph(stream, [&] { stream.synchronize(); }), CudaError);
  CHECK_THROWS_AS(Graph(stream, [] { throw std::out_of_range("mine"); }), std::out_of_range);
  launch({1, 64, 0, stream.get()}, add, numbers.data(), 1.0f, 64);
  stream.synchronize();
  CHECK(numbers.download()[5] == 6);
}

TEST_CASE("the device has properties", "[cuda]") {
  CHECK(device_available());
  const DeviceProperties& properties = device_properties();
  CHECK(!properties.name.empty());
  CHECK(properties.multiprocessors > 0);
  CHECK(properties.capability >= 80);
  CHECK(properties.shared_bytes_per_block >= 48 * 1024);
#if ON_CPU
  CHECK(device_is_cpu());
  CHECK(properties.has_wgmma());
#else
  CHECK(!device_is_cpu());
#endif
}

#if ON_CPU

TEST_CASE("the CPU runtime poisons what nobody has written", "[cuda]") {
  for (const float number : Buffer<float>(100).download()) CHECK(number != number);
}

TEST_CASE("the CPU runtime refuses copies beyond an allocation, as a driver does", "[cuda]") {
  Buffer<float> buffer(4);
  float host[8] = {};
  CHECK(cudaMemcpy(buffer.data(), host, 20, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
  CHECK(cudaMemcpy(host, buffer.data() + 1, 16, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue);
  CHECK(cudaMemset(buffer.data(), 0, 17) == cudaErrorInvalidValue);
  CHECK(cudaFree(host) == cudaErrorInvalidValue);
  CHECK(cudaMemcpy(buffer.data(), host, 16, cudaMemcpyHostToDevice) == cudaSuccess);
  CHECK(cudaGetLastError() == cudaErrorInvalidValue);
  CHECK(cudaGetLastError() == cudaSuccess);
}

#endif
