/// @file
/// The traffic counter against kernels whose traffic is known. Built in the "traffic" mode only.
#include "common/cuda/simt/traffic.hpp"

#include <vector>

#include "common/cuda/hopper.hpp"
#include "common/cuda/memory.hpp"
#include "tests/support/catch.hpp"

using namespace kv::cuda;

namespace {

constexpr int count = 4096;

__global__ void copy(float* to, const float* from) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  to[i] = from[i];
}

__global__ void copy_wide(float4* to, const float4* from) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  float4 four = from[i];
  four.x += 1;
  to[i] = four;
}

__global__ void read_strided(float* to, const float* from) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  to[i] = from[i * 8];
}

__global__ void read_twice(float* to, const float* from) {
  for (int round = 0; round < 2; ++round) {
    to[threadIdx.x] = from[threadIdx.x];
    __syncthreads();
  }
}

// Transposes a tile of 32x32 in shared memory, row after row of `stride` floats.
template <int stride>
__global__ void transpose(float* to, const float* from) {
  __shared__ float tile[32 * stride];
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (unsigned row = warp; row < 32; row += 4) tile[row * stride + lane] = from[row * 32 + lane];
  __syncthreads();
  for (unsigned row = warp; row < 32; row += 4) to[row * 32 + lane] = tile[lane * stride + row];
}

__global__ void same_word(float* to) {
  float* slots = dynamic_shared<float>();
  slots[threadIdx.x] = 1;
  __syncwarp();
  to[threadIdx.x] = slots[7];
}

template <int stride>
__global__ void load_rows(std::uint32_t* to, const uint4* from) {
  bf16* rows = dynamic_shared<bf16>();
  cp_async_16(rows + threadIdx.x * stride, from + threadIdx.x);
  cp_async_commit();
  cp_async_wait<0>();
  __syncwarp();
  std::uint32_t registers[4];
  ldmatrix_x4<false>(registers, rows + threadIdx.x * stride);
  to[threadIdx.x] = registers[0];
}

__global__ void load_box(float* to, const __grid_constant__ TensorMap map) {
  bf16* box = dynamic_shared<bf16>();
  __shared__ mbarrier full;
  if (threadIdx.x == 0) {
    mbarrier_init(&full, 1);
    mbarrier_init_done();
    mbarrier_expect_bytes(&full, 64 * 128);
    tma_load(box, &map, &full, 0, 32);
  }
  __syncthreads();
  mbarrier_wait(&full, 0);
  to[threadIdx.x] = to_float(box[threadIdx.x]);
}

__global__ void add_all(float* sum) { atomicAdd(sum, 1.0f); }

Buffer<float> zeros(std::size_t size) { return Buffer<float>(std::span<const float>(std::vector<float>(size, 0.0f))); }

/// The shared loads, or stores, of one kernel, which has one line of them.
simt::Access only_line(const simt::Traffic& traffic, bool shared, bool store) {
  simt::Access found;
  int lines = 0;
  for (const simt::LineTraffic& line : traffic.lines)
    if (line.shared == shared && line.store == store) found = line.access, ++lines;
  CHECK(lines == 1);
  return found;
}

}  // namespace

TEST_CASE("traffic: a coalesced copy uses every byte of its sectors", "[traffic]") {
  Buffer<float> to(count);
  const Buffer<float> from = zeros(count);
  const auto traffic = simt::measure_traffic([&] { launch({count / 128, 128}, copy, to.data(), from.data()); });
  CAPTURE(traffic.text());
  for (const simt::Access& access : {traffic.global_loads, traffic.global_stores}) {
    CHECK(access.requests == count / 32);
    CHECK(access.bytes == count * 4);
    CHECK(access.sectors == count * 4 / 32);
    CHECK(access.unique_bytes == count * 4);
    CHECK(access.used() == 1.0);
  }
  CHECK(traffic.shared_loads.requests == 0);
  const auto of_from = traffic.loads_of(from.data()), of_to = traffic.stores_to(to.data());
  CHECK(of_from.bytes == of_from.unique_bytes);  // each byte is read once
  CHECK(of_from.sectors * 32 == of_from.bytes);
  CHECK(of_to.bytes == count * 4);
  CHECK(traffic.loads_of(to.data()).requests == 0);
}

TEST_CASE("traffic: a load of 16 bytes is one request, though its parts are used apart", "[traffic]") {
  Buffer<float4> to(count / 4);
  const Buffer<float> from = zeros(count);
  const auto traffic = simt::measure_traffic(
      [&] { launch({count / 128, 32}, copy_wide, to.data(), reinterpret_cast<const float4*>(from.data())); });
  CAPTURE(traffic.text());
  CHECK(traffic.global_loads.requests == count / 128);
  CHECK(traffic.global_loads.used() == 1.0);
  CHECK(traffic.global_stores.requests == count / 128);
  CHECK(traffic.global_stores.used() == 1.0);
}

TEST_CASE("traffic: one float of eight uses an eighth", "[traffic]") {
  Buffer<float> to(count / 8);
  const Buffer<float> from = zeros(count);
  const auto traffic = simt::measure_traffic([&] { launch({count / 1024, 128}, read_strided, to.data(), from.data()); });
  CAPTURE(traffic.text());
  CHECK(traffic.global_loads.sectors == 32 * traffic.global_loads.requests);
  CHECK(traffic.global_loads.used() == 1.0 / 8);
  CHECK(traffic.global_stores.used() == 1.0);
}

TEST_CASE("traffic: what is read twice is counted twice, and has its bytes once", "[traffic]") {
  Buffer<float> to(128);
  const Buffer<float> from = zeros(128);
  const auto traffic = simt::measure_traffic([&] { launch({1, 128}, read_twice, to.data(), from.data()); });
  CHECK(traffic.loads_of(from.data()).bytes == 2 * 512);
  CHECK(traffic.loads_of(from.data()).unique_bytes == 512);
}

TEST_CASE("traffic: a column of 32 floats collides in one bank, padding removes it", "[traffic]") {
  Buffer<float> to(1024);
  const Buffer<float> from = zeros(1024);
  const auto measure = [&](auto* kernel) {
    return simt::measure_traffic([&] { launch({1, 128}, kernel, to.data(), from.data()); });
  };
  const auto straight = measure(transpose<32>), with_padding = measure(transpose<33>);
  CAPTURE(straight.text(), with_padding.text());
  CHECK(only_line(straight, true, true).wavefronts_per_request() == 1);
  CHECK(only_line(straight, true, false).requests == 32);
  CHECK(only_line(straight, true, false).wavefronts_per_request() == 32);
  CHECK(only_line(with_padding, true, true).wavefronts_per_request() == 1);
  CHECK(only_line(with_padding, true, false).wavefronts_per_request() == 1);
}

TEST_CASE("traffic: lanes that read the same word do not collide", "[traffic]") {
  Buffer<float> to(32);
  const auto traffic = simt::measure_traffic([&] { launch({1, 32, 128}, same_word, to.data()); });
  CHECK(traffic.shared_loads.wavefronts == 1);
}

TEST_CASE("traffic: cp.async and ldmatrix count at the kernel's line", "[traffic]") {
  Buffer<std::uint32_t> to(32);
  const Buffer<float> from = zeros(128);
  const auto* pieces = reinterpret_cast<const uint4*>(from.data());
  const auto measure = [&](auto* kernel, std::size_t stride) {
    return simt::measure_traffic([&] { launch({1, 32, 32 * stride * sizeof(bf16)}, kernel, to.data(), pieces); });
  };
  // 128 bytes from a row to the next: the 8 rows of a tile lie in the same banks. 144 bytes: in different ones.
  const auto straight = measure(load_rows<64>, 64), with_padding = measure(load_rows<72>, 72);
  CAPTURE(straight.text(), with_padding.text());
  CHECK(straight.loads_of(from.data()).used() == 1.0);
  CHECK(straight.loads_of(from.data()).bytes == 512);
  CHECK(only_line(straight, true, false).wavefronts_per_request() == 32);
  CHECK(only_line(with_padding, true, false).wavefronts_per_request() == 4);  // 512 bytes
  for (const simt::LineTraffic& line : straight.lines) CHECK(line.file == "traffic.cu");
}

TEST_CASE("traffic: TMA reads what lies inside the matrix, once", "[traffic]") {
  Buffer<float> to(64);
  const Buffer<bf16> matrix(std::span<const bf16>(std::vector<bf16>(64 * 64)));
  const TensorMap map = make_tensor_map(matrix.data(), 64, 64, 64, 64);
  const auto traffic = simt::measure_traffic([&] { launch({1, 64, 64 * 128}, load_box, to.data(), map); });
  CAPTURE(traffic.text());
  CHECK(traffic.loads_of(matrix.data()).bytes == 32 * 128);  // rows 32 to 63 of a box of 64
  CHECK(traffic.loads_of(matrix.data()).unique_bytes == 32 * 128);
  CHECK(traffic.loads_of(matrix.data()).used() == 1.0);
}

TEST_CASE("traffic: atomics count as stores", "[traffic]") {
  Buffer<float> sum = zeros(1);
  const auto traffic = simt::measure_traffic([&] { launch({1, 64}, add_all, sum.data()); });
  CHECK(traffic.stores_to(sum.data()).bytes == 64 * 4);
  CHECK(traffic.stores_to(sum.data()).unique_bytes == 4);
  CHECK(sum.download()[0] == 64);
}

TEST_CASE("traffic: the host's own accesses do not count, nor those outside of the measurement", "[traffic]") {
  Buffer<float> to(count);
  const Buffer<float> from = zeros(count);
  launch({count / 128, 128}, copy, to.data(), from.data());
  const auto traffic = simt::measure_traffic([&] { to.upload(from.download()); });
  CHECK(traffic.lines.empty());
}
