/// @file
/// Every primitive of common/cuda against its definition. The same tests run on the CPU runtime and on a GPU; numbers
/// are small integers, so that sums are exact and both must give the same.
#include <bit>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "common/cuda/device_properties.hpp"
#include "common/cuda/hopper.hpp"
#include "common/cuda/memory.hpp"
#include "tests/support/catch.hpp"

using namespace kv::cuda;

namespace {

constexpr unsigned all_lanes = 0xffffffffu;

/// Launches kernel(out, inputs...) and brings back `size` outputs.
template <class Out, class... Parameters, class... Inputs>
std::vector<Out> outputs(std::size_t size, const Launch& shape, void (*kernel)(Out*, Parameters...), const Inputs&... inputs) {
  Buffer<Out> out(size);
  launch(shape, kernel, out.data(), inputs...);
  return out.download();
}

Buffer<bf16> on_device(const std::vector<bf16>& host) { return Buffer<bf16>(std::span<const bf16>(host)); }

/// Integers from -4 to 4: products and sums of thousands of them are exact.
std::vector<bf16> small_integers(std::size_t count, unsigned seed) {
  std::mt19937 generator(seed);
  std::vector<bf16> numbers(count);
  for (bf16& number : numbers) number = to_bf16(static_cast<float>(static_cast<int>(generator() % 9) - 4));
  return numbers;
}

/// (rows,columns), row after row.
struct Matrix {
  std::size_t rows, columns;
  std::vector<bf16> values;
  Matrix(std::size_t rows, std::size_t columns, unsigned seed)
      : rows(rows), columns(columns), values(small_integers(rows * columns, seed)) {}
  float operator()(std::size_t row, std::size_t column) const { return to_float(values[row * columns + column]); }
};

/// A B^T, (rows of A, rows of B).
std::vector<float> product_nt(const Matrix& A, const Matrix& B) {
  std::vector<float> C(A.rows * B.rows);
  for (std::size_t i = 0; i < A.rows; ++i)
    for (std::size_t j = 0; j < B.rows; ++j)
      for (std::size_t k = 0; k < A.columns; ++k) C[i * B.rows + j] += A(i, k) * B(j, k);
  return C;
}

/// A B, (rows of A, columns of B).
std::vector<float> product_nn(const Matrix& A, const Matrix& B) {
  std::vector<float> C(A.rows * B.columns);
  for (std::size_t i = 0; i < A.rows; ++i)
    for (std::size_t j = 0; j < B.columns; ++j)
      for (std::size_t k = 0; k < A.columns; ++k) C[i * B.columns + j] += A(i, k) * B(k, j);
  return C;
}

// ---- bf16 --------------------------------------------------------------------------------------------------------

__global__ void narrow(std::uint16_t* out, const float* in, int count) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < count) out[i] = to_bf16(in[i]).bits;
}

__global__ void narrow_pairs(std::uint32_t* out, const float* in) { out[threadIdx.x] = pack(in[threadIdx.x], in[31 - threadIdx.x]); }

struct Rounding {
  std::uint32_t f32;
  std::uint16_t bf16;
};
const Rounding roundings[] = {
    {0x3f800000, 0x3f80},  // 1
    {0xbf800000, 0xbf80},  // -1
    {0x3f807fff, 0x3f80},  // just under a tie
    {0x3f808000, 0x3f80},  // a tie: to even, down
    {0x3f818000, 0x3f82},  // a tie: to even, up
    {0x3f808001, 0x3f81},  // just above a tie
    {0x3fffffff, 0x4000},  // a carry into the exponent
    {0x00000000, 0x0000}, {0x80000000, 0x8000},
    {0x00008000, 0x0000},  // half of the smallest subnormal: to even
    {0x00008001, 0x0001},
    {0x00018000, 0x0002},
    {0x7f7fffff, 0x7f80},  // the largest f32: infinity
    {0x7f800000, 0x7f80}, {0xff800000, 0xff80},
    {0x7fc00000, 0x7fff}, {0xffc00001, 0x7fff}, {0x7f800001, 0x7fff},  // NaN
};

}  // namespace

TEST_CASE("bf16 rounds to nearest, ties to even, and NaN stays NaN", "[cuda]") {
  std::vector<float> in;
  for (const Rounding& rounding : roundings) in.push_back(std::bit_cast<float>(rounding.f32));
  const Buffer<float> device{std::span<const float>(in)};
  const auto narrowed = outputs<std::uint16_t>(in.size(), {1, 64}, narrow, device.data(), static_cast<int>(in.size()));
  for (std::size_t i = 0; i < in.size(); ++i) {
    CAPTURE(i, roundings[i].f32);
    CHECK(to_bf16(in[i]).bits == roundings[i].bf16);
    CHECK(narrowed[i] == roundings[i].bf16);
  }
}

TEST_CASE("bf16: widening and narrowing gives every number back", "[cuda]") {
  std::vector<float> in;
  std::vector<std::uint16_t> expected;
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const bf16 value{static_cast<std::uint16_t>(bits)};
    in.push_back(to_float(value));
    expected.push_back((bits & 0x7fff) > 0x7f80 ? std::uint16_t{0x7fff} : value.bits);
  }
  const Buffer<float> device{std::span<const float>(in)};
  CHECK((outputs<std::uint16_t>(in.size(), {64, 1024}, narrow, device.data(), 0x10000) == expected));
}

TEST_CASE("pack puts the first argument first in memory", "[cuda]") {
  std::vector<float> in;
  for (int i = 0; i < 32; ++i) in.push_back(static_cast<float>(i) + 0.5f);
  const Buffer<float> device{std::span<const float>(in)};
  const auto pairs = outputs<std::uint32_t>(32, {1, 32}, narrow_pairs, device.data());
  for (int i = 0; i < 32; ++i) CHECK(pairs[i] == (to_bf16(in[i]).bits | std::uint32_t{to_bf16(in[31 - i]).bits} << 16));
}

// ---- shuffles and votes ------------------------------------------------------------------------------------------

namespace {

enum class Shuffle { indexed, xored, down, up };

__global__ void shuffle(int* out, Shuffle kind, int argument, int width) {
  const int value = static_cast<int>(threadIdx.x) * 10;
  int result = -1;
  if (kind == Shuffle::indexed) result = __shfl_sync(all_lanes, value, argument, width);
  if (kind == Shuffle::xored) result = __shfl_xor_sync(all_lanes, value, argument, width);
  if (kind == Shuffle::down) result = __shfl_down_sync(all_lanes, value, argument, width);
  if (kind == Shuffle::up) result = __shfl_up_sync(all_lanes, value, argument, width);
  out[threadIdx.x] = result;
}

/// The lane that a shuffle reads, by the table of the CUDA C++ Programming Guide, "Warp Shuffle Functions".
int source_lane(Shuffle kind, int lane, int argument, int width) {
  const int first = lane / width * width, last = first + width - 1;
  switch (kind) {
    case Shuffle::indexed: return first + argument % width;
    case Shuffle::xored: return (lane ^ argument) <= last ? lane ^ argument : lane;
    case Shuffle::down: return lane + argument <= last ? lane + argument : lane;
    case Shuffle::up: return lane - argument >= first ? lane - argument : lane;
  }
  return -1;
}

__global__ void shuffle_wide(double* out) {
  out[threadIdx.x] = __shfl_xor_sync(all_lanes, 1.0 / (1 + threadIdx.x), 5);
}

// Two halves of a warp, each with a mask of its own, in different branches.
__global__ void shuffle_halves(int* out) {
  const int lane = static_cast<int>(threadIdx.x);
  if (lane < 16)
    out[lane] = __shfl_down_sync(0x0000ffffu, lane, 1, 16);
  else
    out[lane] = __shfl_xor_sync(0xffff0000u, lane * 100, 3);
}

__global__ void vote(unsigned* out, unsigned pattern) {
  const int mine = static_cast<int>(pattern >> threadIdx.x & 1);
  out[threadIdx.x] = __ballot_sync(all_lanes, mine);
  out[32 + threadIdx.x] = __any_sync(all_lanes, mine) != 0;
  out[64 + threadIdx.x] = __all_sync(all_lanes, mine) != 0;
}

}  // namespace

TEST_CASE("shuffles read the lane of the definition", "[cuda]") {
  const auto kind = GENERATE(Shuffle::indexed, Shuffle::xored, Shuffle::down, Shuffle::up);
  const int width = GENERATE(32, 16, 8, 2), argument = GENERATE(0, 1, 3, 7, 16, 31);
  CAPTURE(static_cast<int>(kind), width, argument);
  const auto values = outputs<int>(32, {1, 32}, shuffle, kind, argument, width);
  for (int lane = 0; lane < 32; ++lane) CHECK(values[lane] == source_lane(kind, lane, argument, width) * 10);
}

TEST_CASE("shuffles: 8 bytes, and halves of a warp apart", "[cuda]") {
  const auto wide = outputs<double>(32, {1, 32}, shuffle_wide);
  const auto halves = outputs<int>(32, {1, 32}, shuffle_halves);
  for (int lane = 0; lane < 32; ++lane) {
    CHECK(wide[lane] == 1.0 / (1 + (lane ^ 5)));
    CHECK(halves[lane] == (lane < 16 ? std::min(lane + 1, 15) : (lane ^ 3) * 100));
  }
}

TEST_CASE("votes", "[cuda]") {
  const unsigned pattern = GENERATE(0u, 1u, 0x80000001u, 0xfffffffeu, 0xffffffffu);
  const auto votes = outputs<unsigned>(96, {1, 32}, vote, pattern);
  for (int lane = 0; lane < 32; ++lane) {
    CHECK(votes[lane] == pattern);
    CHECK(votes[32 + lane] == (pattern != 0));
    CHECK(votes[64 + lane] == (pattern == 0xffffffffu));
  }
}

// ---- atomics -----------------------------------------------------------------------------------------------------

namespace {

__global__ void count_all(int* out, float* sum, unsigned* ring) {
  const int number = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  atomicAdd(&out[0], number);
  atomicMax(&out[1], number);
  atomicMin(&out[2], -number);
  atomicOr(&out[3], 1 << number % 20);
  atomicExch(&out[4], 7);
  for (int seen = 1000000;;) {  // the lowest number wins
    const int before = atomicCAS(&out[5], seen, min(seen, number));
    if (before == seen) break;
    seen = before;
  }
  atomicAdd(sum, 0.5f);
  atomicInc(ring, 6);
}

}  // namespace

TEST_CASE("atomics, from threads of several blocks", "[cuda]") {
  constexpr int blocks = 5, threads = 96, all = blocks * threads;
  Buffer<int> out(std::span<const int>(std::vector<int>{0, 0, 0, 0, 0, 1000000}));
  Buffer<float> sum(std::span<const float>(std::vector<float>{0.0f}));
  Buffer<unsigned> ring(std::span<const unsigned>(std::vector<unsigned>{0}));
  launch({blocks, threads}, count_all, out.data(), sum.data(), ring.data());
  CHECK((out.download() == std::vector<int>{all * (all - 1) / 2, all - 1, -(all - 1), (1 << 20) - 1, 7, 0}));
  CHECK(sum.download()[0] == 0.5f * all);
  CHECK(ring.download()[0] == all % 7);
}

// ---- barriers ----------------------------------------------------------------------------------------------------

namespace {

// A ring of warps: in round r warp w reads what warp w-1 wrote in round r-1.
__global__ void pass_around(int* out, int rounds) {
  __shared__ int slots[2][8];
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  int held = warp;
  for (int round = 0; round < rounds; ++round) {
    if (lane == 0) slots[round % 2][warp] = held;
    __syncthreads();
    held = slots[round % 2][(warp + 7) % 8];
  }
  out[threadIdx.x] = held;
}

// Two halves of a block, each with a barrier of its own and the second one with twice as many rounds.
__global__ void two_halves(int* out, int rounds) {
  __shared__ int slots[2][64];
  const int half = static_cast<int>(threadIdx.x) / 64, place = static_cast<int>(threadIdx.x) % 64;
  int sum = 0;
  for (int round = 0; round < rounds * (half + 1); ++round) {
    slots[half][place] = round * 1000 + place;
    named_barrier_sync(1 + half, 64);
    sum += slots[half][63 - place];
    named_barrier_sync(1 + half, 64);
  }
  out[threadIdx.x] = sum;
}

// Two warps make numbers, one adds them up: those that make arrive at "full" and wait at "empty", the other way round here.
__global__ void hand_over(int* out, int rounds) {
  __shared__ int slots[64];
  const int thread = static_cast<int>(threadIdx.x);
  int sum = 0;
  for (int round = 0; round < rounds; ++round) {
    if (thread < 64) {
      if (round > 0) named_barrier_sync(2, 96);
      slots[thread] = round * 1000 + thread;
      named_barrier_arrive(1, 96);
    } else {
      named_barrier_sync(1, 96);
      sum += slots[thread - 64] + slots[thread - 32];
      if (round + 1 < rounds) named_barrier_arrive(2, 96);
    }
  }
  if (thread >= 64) out[thread - 64] = sum;
}

// Lanes exchange numbers through shared memory, in two halves that do not wait for each other.
__global__ void warp_exchange(int* out) {
  __shared__ int slots[32];
  const unsigned lane = threadIdx.x, mask = lane < 16 ? 0x0000ffffu : 0xffff0000u;
  slots[lane] = static_cast<int>(lane);
  __syncwarp(mask);
  out[lane] = slots[lane ^ 9];
}

}  // namespace

TEST_CASE("__syncthreads: every round sees the round before", "[cuda]") {
  const int rounds = GENERATE(1, 2, 7, 8);
  const auto held = outputs<int>(256, {1, 256}, pass_around, rounds);
  for (int i = 0; i < 256; ++i) CHECK(held[i] == (i / 32 + 8 * rounds - rounds) % 8);
}

TEST_CASE("named barriers: two halves of a block that do not wait for each other", "[cuda]") {
  const int rounds = GENERATE(1, 2, 9);
  const auto sums = outputs<int>(128, {1, 128}, two_halves, rounds);
  for (int i = 0; i < 128; ++i) {
    const int mine = rounds * (i / 64 + 1);
    CHECK(sums[i] == mine * (mine - 1) / 2 * 1000 + mine * (63 - i % 64));
  }
}

TEST_CASE("named barriers: one side arrives and goes on, the other waits", "[cuda]") {
  const int rounds = GENERATE(1, 2, 9);
  const auto sums = outputs<int>(32, {1, 96}, hand_over, rounds);
  for (int i = 0; i < 32; ++i) CHECK(sums[i] == rounds * (rounds - 1) * 1000 + rounds * (2 * i + 32));
}

TEST_CASE("__syncwarp on half a warp", "[cuda]") {
  const auto got = outputs<int>(32, {1, 32}, warp_exchange);
  for (int i = 0; i < 32; ++i) CHECK(got[i] == (i ^ 9));
}

// ---- cp.async ----------------------------------------------------------------------------------------------------

namespace {

// Each thread copies 16 bytes per group, in three groups; its neighbour reads them.
__global__ void copy_in_groups(unsigned* out, const uint4* in) {
  uint4* slots = dynamic_shared<uint4>();
  const unsigned self = threadIdx.x, neighbour = (self + 1) % blockDim.x;
  for (unsigned group = 0; group < 3; ++group) {
    cp_async_16(&slots[group * blockDim.x + self], &in[group * blockDim.x + self]);
    cp_async_commit();
  }
  cp_async_wait<1>();
  __syncthreads();
  for (unsigned group = 0; group < 2; ++group) out[group * blockDim.x + self] = slots[group * blockDim.x + neighbour].y;
  cp_async_wait<0>();
  __syncthreads();
  out[2 * blockDim.x + self] = slots[2 * blockDim.x + neighbour].y;
}

std::vector<uint4> quadruples(unsigned count) {
  std::vector<uint4> all;
  for (unsigned i = 0; i < count; ++i) all.push_back(make_uint4(4 * i, 4 * i + 1, 4 * i + 2, 4 * i + 3));
  return all;
}

}  // namespace

TEST_CASE("cp.async: a group is there after its wait, for others after a barrier", "[cuda]") {
  constexpr unsigned threads = 96;
  const auto in = quadruples(3 * threads);
  const Buffer<uint4> device{std::span<const uint4>(in)};
  const auto got = outputs<unsigned>(3 * threads, {1, threads, 3 * threads * 16}, copy_in_groups, device.data());
  for (unsigned i = 0; i < 3 * threads; ++i) CHECK(got[i] == in[i / threads * threads + (i % threads + 1) % threads].y);
}

// ---- ldmatrix and mma.sync ---------------------------------------------------------------------------------------

namespace {

constexpr int padded = 24;  ///< elements from a row to the next: 48 bytes, so rows do not collide

// A matrix of 32 rows of 8, its rows in scrambled order: lane l gives the address of row 5l % 32.
template <bool Transposed>
__global__ void load_tiles(std::uint32_t* out, const bf16* in) {
  bf16* rows = dynamic_shared<bf16>();
  for (int i = static_cast<int>(threadIdx.x); i < 32 * 8; i += 32) rows[i / 8 * padded + i % 8] = in[i];
  __syncwarp();
  std::uint32_t registers[4];
  ldmatrix_x4<Transposed>(registers, rows + threadIdx.x * 5 % 32 * padded);
  for (int tile = 0; tile < 4; ++tile) out[tile * 32 + threadIdx.x] = registers[tile];
}

// D = A B from fragments that are gathered element by element, as the header defines them.
__global__ void multiply_fragments(float* out, const bf16* A, const bf16* B) {
  const int g = static_cast<int>(threadIdx.x) / 4, p = static_cast<int>(threadIdx.x) % 4;
  std::uint32_t a[4], b[2];
  for (int i = 0; i < 4; ++i) {
    const bf16* first = A + (g + i % 2 * 8) * 16 + 2 * p + i / 2 * 8;
    a[i] = first[0].bits | static_cast<std::uint32_t>(first[1].bits) << 16;
  }
  for (int i = 0; i < 2; ++i) {
    const bf16* first = B + (2 * p + 8 * i) * 8 + g;
    b[i] = first[0].bits | static_cast<std::uint32_t>(first[8].bits) << 16;
  }
  float d[4] = {1, 1, 1, 1};
  mma_m16n8k16(d, a, b);
  for (int i = 0; i < 4; ++i) out[(g + i / 2 * 8) * 8 + 2 * p + i % 2] = d[i];
}

// The way kernels go: S = Q K^T with K (8,16) and O = P V with V (16,16), both tiles by ldmatrix.
__global__ void multiply_loaded(float* scores, float* mixed, const bf16* Q, const bf16* K, const bf16* V) {
  bf16* q = dynamic_shared<bf16>();  // 16 rows each
  bf16 *k = q + 16 * padded, *v = k + 16 * padded;
  const int lane = static_cast<int>(threadIdx.x), g = lane / 4, p = lane % 4;
  for (int i = lane; i < 256; i += 32) {
    q[i / 16 * padded + i % 16] = Q[i];
    k[i / 16 * padded + i % 16] = K[i];
    v[i / 16 * padded + i % 16] = V[i];
  }
  __syncwarp();
  std::uint32_t a[4], rows[4];
  ldmatrix_x4<false>(a, q + lane % 16 * padded + lane / 16 * 8);
  ldmatrix_x4<false>(rows, k + (lane / 16 * 8 + lane % 8) * padded + lane / 8 % 2 * 8);
  for (int half = 0; half < 2; ++half) {
    float d[4] = {};
    mma_m16n8k16(d, a, {rows[2 * half], rows[2 * half + 1]});
    for (int i = 0; i < 4; ++i) scores[(g + i / 2 * 8) * 16 + half * 8 + 2 * p + i % 2] = d[i];
  }
  ldmatrix_x4<true>(rows, v + lane % 16 * padded + lane / 16 * 8);
  for (int half = 0; half < 2; ++half) {
    float d[4] = {};
    mma_m16n8k16(d, a, {rows[2 * half], rows[2 * half + 1]});
    for (int i = 0; i < 4; ++i) mixed[(g + i / 2 * 8) * 16 + half * 8 + 2 * p + i % 2] = d[i];
  }
}

}  // namespace

TEST_CASE("ldmatrix: lane 4g+p gets elements (g, 2p), (g, 2p+1) of each tile, or transposed (2p, g), (2p+1, g)", "[cuda]") {
  const bool transposed = GENERATE(false, true);
  std::vector<bf16> in;
  for (std::uint16_t i = 0; i < 256; ++i) in.push_back({i});
  const Buffer<bf16> device = on_device(in);
  const auto got = outputs<std::uint32_t>(128, {1, 32, 32 * padded * sizeof(bf16)},
                                          transposed ? load_tiles<true> : load_tiles<false>, device.data());
  const auto element = [&](int tile, int row, int column) {
    return std::uint32_t{in[(tile * 8 + row) * 5 % 32 * 8 + column].bits};
  };
  for (int tile = 0; tile < 4; ++tile)
    for (int lane = 0; lane < 32; ++lane) {
      const int g = lane / 4, p = lane % 4;
      const auto first = transposed ? element(tile, 2 * p, g) : element(tile, g, 2 * p);
      const auto second = transposed ? element(tile, 2 * p + 1, g) : element(tile, g, 2 * p + 1);
      CHECK(got[tile * 32 + lane] == (first | second << 16));
    }
}

TEST_CASE("mma.sync adds the product of its fragments", "[cuda]") {
  const Matrix A(16, 16, 1), B(16, 8, 2);
  const Buffer<bf16> a = on_device(A.values), b = on_device(B.values);
  std::vector<float> expected = product_nn(A, B);
  for (float& value : expected) value += 1;
  CHECK((outputs<float>(128, {1, 32}, multiply_fragments, a.data(), b.data()) == expected));
}

TEST_CASE("ldmatrix brings rows of K and columns of V into place for mma.sync", "[cuda]") {
  const Matrix Q(16, 16, 3), K(16, 16, 4), V(16, 16, 5);
  const Buffer<bf16> q = on_device(Q.values), k = on_device(K.values), v = on_device(V.values);
  Buffer<float> scores(256), mixed(256);
  launch({1, 32, 48 * padded * sizeof(bf16)}, multiply_loaded, scores.data(), mixed.data(), q.data(), k.data(), v.data());
  CHECK((scores.download() == product_nt(Q, K)));
  CHECK((mixed.download() == product_nn(Q, V)));
}

// ---- mbarrier ----------------------------------------------------------------------------------------------------

namespace {

/// @return false, with a note, where the GPU lacks it
bool can(bool has, const char* what) {
  if (!has) WARN("skipped: " << device_properties().name << " has no " << what);
  return has;
}

// Warp 0 makes numbers, warp 1 uses them, through two slots.
__global__ void pipeline(int* out, int rounds) {
  __shared__ mbarrier full[2], empty[2];
  __shared__ int slots[2][32];
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (threadIdx.x == 0) {
    for (int i = 0; i < 2; ++i) mbarrier_init(&full[i], 32), mbarrier_init(&empty[i], 32);
    mbarrier_init_done();
  }
  __syncthreads();
  int sum = 0;
  for (int round = 0; round < rounds; ++round) {
    const int slot = round % 2, parity = round / 2 % 2;
    if (threadIdx.x < 32) {
      if (round >= 2) mbarrier_wait(&empty[slot], parity ^ 1);
      slots[slot][lane] = round * 100 + lane;
      mbarrier_arrive(&full[slot]);
    } else {
      mbarrier_wait(&full[slot], parity);
      sum += slots[slot][31 - lane];
      mbarrier_arrive(&empty[slot]);
    }
  }
  if (threadIdx.x >= 32) out[lane] = sum;
}

// The phase before the first counts as passed, so a producer's first wait can name parity 1.
__global__ void phases(int* out) {
  __shared__ mbarrier barrier;
  if (threadIdx.x == 0) mbarrier_init(&barrier, 1), mbarrier_init_done();
  __syncthreads();
  mbarrier_wait(&barrier, 1);
  __syncthreads();
  for (int phase = 0; phase < 5; ++phase) {
    if (threadIdx.x == 0) mbarrier_arrive(&barrier);
    mbarrier_wait(&barrier, phase % 2);
    __syncthreads();
  }
  out[threadIdx.x] = 5;
}

}  // namespace

TEST_CASE("mbarrier: a pipeline of two slots keeps its order", "[cuda]") {
  if (!can(device_properties().has_tma(), "mbarrier")) return;
  const int rounds = GENERATE(1, 2, 3, 9);
  const auto sums = outputs<int>(32, {1, 64}, pipeline, rounds);
  for (int i = 0; i < 32; ++i) CHECK(sums[i] == rounds * (rounds - 1) / 2 * 100 + rounds * (31 - i));
}

TEST_CASE("mbarrier: phases alternate, the one before the first has passed", "[cuda]") {
  if (!can(device_properties().has_tma(), "mbarrier")) return;
  CHECK((outputs<int>(64, {1, 64}, phases) == std::vector<int>(64, 5)));
}

// ---- TMA ---------------------------------------------------------------------------------------------------------

namespace {

__global__ void load_box(std::uint16_t* out, const __grid_constant__ TensorMap map, int column, int row, int box_rows) {
  bf16* box = dynamic_shared<bf16>();
  __shared__ mbarrier barrier;
  if (threadIdx.x == 0) {
    mbarrier_init(&barrier, 1);
    mbarrier_init_done();
    mbarrier_expect_bytes(&barrier, box_rows * 128);
    tma_load(box, &map, &barrier, column, row);
  }
  __syncthreads();
  mbarrier_wait(&barrier, 0);
  for (int i = static_cast<int>(threadIdx.x); i < box_rows * 64; i += static_cast<int>(blockDim.x)) out[i] = box[i].bits;
}

struct Corner {
  int column, row;
};

}  // namespace

TEST_CASE("TMA: a box lies swizzled in shared memory, zeros where the matrix ends", "[cuda]") {
  if (!can(device_properties().has_tma(), "TMA")) return;
  constexpr int rows = 100, columns = 200, stride = 208;
  const int box_rows = GENERATE(8, 64, 256);
  const Corner corner = GENERATE(Corner{0, 0}, Corner{64, 30}, Corner{160, 70}, Corner{-8, -3}, Corner{192, 99});
  CAPTURE(box_rows, corner.column, corner.row);
  std::vector<bf16> in(rows * stride);
  for (std::size_t i = 0; i < in.size(); ++i) in[i].bits = static_cast<std::uint16_t>(i + 1);
  const Buffer<bf16> device = on_device(in);
  const TensorMap map = make_tensor_map(device.data(), rows, columns, stride, box_rows);
  const auto box = outputs<std::uint16_t>(box_rows * 64, {1, 64, box_rows * std::size_t{128}}, load_box, map,
                                          corner.column, corner.row, box_rows);
  int wrong = 0;
  for (int r = 0; r < box_rows; ++r)
    for (int c = 0; c < 64; ++c) {
      const int row = corner.row + r, column = corner.column + c;
      const bool inside = row >= 0 && row < rows && column >= 0 && column < columns;
      const std::uint16_t expected = inside ? in[row * stride + column].bits : std::uint16_t{0};
      wrong += box[r * 64 + (c / 8 ^ r % 8) * 8 + c % 8] != expected;
    }
  CHECK(wrong == 0);
}

TEST_CASE("TMA: matrices that it cannot describe are refused", "[cuda]") {
  const Buffer<bf16> buffer(64 * 64 + 8);
  CHECK_THROWS_AS(make_tensor_map(buffer.data() + 1, 64, 64, 64, 64), CudaError);
  CHECK_THROWS_AS(make_tensor_map(buffer.data(), 64, 60, 60, 64), CudaError);
  CHECK_THROWS_AS(make_tensor_map(buffer.data(), 64, 64, 56, 64), CudaError);
  CHECK_THROWS_AS(make_tensor_map(buffer.data(), 0, 64, 64, 64), CudaError);
  CHECK_THROWS_AS(make_tensor_map(buffer.data(), 64, 64, 64, 257), CudaError);
  CHECK_THROWS_AS(make_tensor_map(buffer.data(), 64, 64, 64, 0), CudaError);
}

// ---- clusters ----------------------------------------------------------------------------------------------------

namespace {

// A ring of blocks: in each round a block takes over what its neighbour in the cluster has.
__global__ void pass_through_cluster(int* out, int cluster, int rounds) {
  int* slots = dynamic_shared<int>();
  auto* heard = reinterpret_cast<mbarrier*>(slots + 64);
  const int thread = static_cast<int>(threadIdx.x), rank = cluster_rank(), next = (rank + 1) % cluster;
  if (thread == 0) mbarrier_init(heard, 64);
  int held = static_cast<int>(blockIdx.x) * 100 + thread;
  slots[thread] = held;
  cluster_sync();
  for (int round = 0; round < rounds; ++round) {
    held = *in_block(slots + thread, next);
    mbarrier_arrive_in_block(heard, next);
    mbarrier_wait(heard, round % 2);  // the neighbour has read
    slots[thread] = held;
    cluster_sync();
  }
  out[blockIdx.x * 64 + threadIdx.x] = held;
}

// Each block fetches one box of 64 rows for the whole cluster.
__global__ void share_boxes(std::uint16_t* out, const __grid_constant__ TensorMap map, int cluster) {
  bf16* boxes = dynamic_shared<bf16>();
  auto* full = reinterpret_cast<mbarrier*>(boxes + cluster * 64 * 64);
  const int rank = cluster_rank();
  if (threadIdx.x == 0) {
    mbarrier_init(full, 1);
    mbarrier_init_done();
  }
  cluster_sync();
  if (threadIdx.x == 0) {
    mbarrier_expect_bytes(full, cluster * box_bytes);
    tma_load_multicast(boxes + rank * 64 * 64, &map, full, 0, rank * 64, (1u << cluster) - 1);
  }
  mbarrier_wait(full, 0);
  for (int i = static_cast<int>(threadIdx.x); i < cluster * 64 * 64; i += 64)
    out[static_cast<int>(blockIdx.x) * cluster * 64 * 64 + i] = boxes[i].bits;
  cluster_sync();
}

}  // namespace

TEST_CASE("clusters: the others' shared memory, and arrivals there", "[cuda]") {
  if (!can(device_properties().has_tma(), "clusters")) return;
  const int cluster = GENERATE(1, 2, 4), rounds = GENERATE(1, 2, 3);
  CAPTURE(cluster, rounds);
  const auto held = outputs<int>(8 * 64, {8, 64, 64 * 4 + 8, nullptr, static_cast<unsigned>(cluster)}, pass_through_cluster,
                                 cluster, rounds);
  for (int i = 0; i < 8 * 64; ++i) {
    const int block = i / 64, first = block / cluster * cluster;
    CHECK(held[i] == (first + (block - first + rounds) % cluster) * 100 + i % 64);
  }
}

TEST_CASE("clusters: a box that is fetched once for all blocks", "[cuda]") {
  if (!can(device_properties().has_wgmma(), "multicast copies")) return;
  const int cluster = GENERATE(1, 2, 4);
  CAPTURE(cluster);
  std::vector<bf16> in(4 * 64 * 64);
  for (std::size_t i = 0; i < in.size(); ++i) in[i].bits = static_cast<std::uint16_t>(i + 1);
  const Buffer<bf16> device = on_device(in);
  const TensorMap map = make_tensor_map(device.data(), 4 * 64, 64, 64, 64);
  const Launch shape{4, 64, cluster * std::size_t{box_bytes} + 8, nullptr, static_cast<unsigned>(cluster)};
  const auto boxes = outputs<std::uint16_t>(4 * cluster * 64 * 64, shape, share_boxes, map, cluster);
  int wrong = 0;
  for (int block = 0; block < 4; ++block)
    for (int r = 0; r < cluster * 64; ++r)
      for (int c = 0; c < 64; ++c)
        wrong += boxes[(block * cluster * 64 + r) * 64 + (c / 8 ^ r % 8) * 8 + c % 8] != in[r * 64 + c].bits;
  CHECK(wrong == 0);
}

// ---- wgmma -------------------------------------------------------------------------------------------------------

namespace {

template <int N>
struct Accumulator {
  float d[N / 2] = {};
};

template <bool Transposed, int Half, class A>
__device__ void multiply_add(float (&d)[Half], const A& a, MatrixDescriptor b) {
  if constexpr (Half == 32) wgmma_m64n64k16<Transposed>(d, a, b);
  if constexpr (Half == 128) wgmma_m64n256k16<Transposed>(d, a, b);
}

template <int Half>
__device__ void store(float* out, const float (&d)[Half]) {
  const int warp = static_cast<int>(threadIdx.x) / 32, g = static_cast<int>(threadIdx.x) % 32 / 4, p = static_cast<int>(threadIdx.x) % 4;
  for (int j = 0; j < Half / 4; ++j)
    for (int i = 0; i < 4; ++i)
      out[(16 * warp + g + i / 2 * 8) * (2 * Half) + 8 * j + 2 * p + i % 2] = d[4 * j + i];
}

// Boxes of 64 rows, side by side; barrier counts all.
__device__ void load_boxes(bf16* to, const TensorMap* map, mbarrier* barrier, int rows, int columns) {
  for (int row = 0; row < rows; row += 64)
    for (int column = 0; column < columns; column += 64, to += 64 * 64) tma_load(to, map, barrier, column, row);
}

// S (64,N) = Q (64,128) K^T, K (N,128): both operands along the summed axis. Twice, so that D is added to.
template <int N>
__global__ void __launch_bounds__(128)
    wgmma_scores(float* out, const __grid_constant__ TensorMap q_map, const __grid_constant__ TensorMap k_map) {
  bf16 *q = dynamic_shared<bf16>(), *k = q + 64 * 128;
  __shared__ mbarrier barrier;
  if (threadIdx.x == 0) {
    mbarrier_init(&barrier, 1);
    mbarrier_init_done();
    mbarrier_expect_bytes(&barrier, (64 + N) * 128 * 2);
    load_boxes(q, &q_map, &barrier, 64, 128);
    for (int column = 0; column < 128; column += 64)  // box column after box column: N rows are contiguous
      for (int row = 0; row < N; row += 64) tma_load(k + column * N + row * 64, &k_map, &barrier, column, row);
  }
  __syncthreads();
  mbarrier_wait(&barrier, 0);
  float d[N / 2] = {};
  wgmma_fence();
  for (int twice = 0; twice < 2; ++twice) {
    for (int column = 0; column < 128; column += 16)
      multiply_add<false>(d, wgmma_descriptor(q + column / 64 * 4096) + column % 64 / 8,
                          wgmma_descriptor(k + column / 64 * 64 * N) + column % 64 / 8);
    wgmma_commit();
  }
  wgmma_wait<0>();
  store(out, d);
}

// O (64,N) = P (64,64) V, V (64,N): the summed axis runs over the rows of V. P from shared memory or from registers.
template <int N, bool FromRegisters>
__global__ void __launch_bounds__(128) wgmma_mix(float* out, const bf16* P, const __grid_constant__ TensorMap p_map,
                                                 const __grid_constant__ TensorMap v_map) {
  bf16 *p = dynamic_shared<bf16>(), *v = p + 64 * 64;
  __shared__ mbarrier barrier;
  if (threadIdx.x == 0) {
    mbarrier_init(&barrier, 1);
    mbarrier_init_done();
    mbarrier_expect_bytes(&barrier, 64 * 128 + 64 * N * 2);
    tma_load(p, &p_map, &barrier, 0, 0);
    load_boxes(v, &v_map, &barrier, 64, N);
  }
  __syncthreads();
  mbarrier_wait(&barrier, 0);
  const int warp = static_cast<int>(threadIdx.x) / 32, g = static_cast<int>(threadIdx.x) % 32 / 4, pair = static_cast<int>(threadIdx.x) % 4;
  std::uint32_t a[4][4];
  for (int step = 0; step < 4; ++step)
    for (int i = 0; i < 4; ++i) {
      const bf16* first = P + (16 * warp + g + i % 2 * 8) * 64 + step * 16 + 2 * pair + i / 2 * 8;
      a[step][i] = first[0].bits | static_cast<std::uint32_t>(first[1].bits) << 16;
    }
  float d[N / 2] = {};
  wgmma_fence();
  for (int step = 0; step < 4; ++step) {
    const MatrixDescriptor b = wgmma_descriptor_transposed(v) + step * 128;
    if constexpr (FromRegisters)
      multiply_add<true>(d, a[step], b);
    else
      multiply_add<true>(d, wgmma_descriptor(p) + step * 2, b);
  }
  wgmma_commit();
  wgmma_wait<0>();
  store(out, d);
}

// The swapped form, 16 columns: S^T (64,16) = K (64,64) Q^T and O^T (64,16) = V^T P^T from the same tile of 64 rows.
__global__ void __launch_bounds__(128)
    wgmma_swapped(float* out, const __grid_constant__ TensorMap row_map, const __grid_constant__ TensorMap few_map) {
  bf16 *rows = dynamic_shared<bf16>(), *few = rows + 64 * 64;
  __shared__ mbarrier barrier;
  if (threadIdx.x == 0) {
    mbarrier_init(&barrier, 1);
    mbarrier_init_done();
    mbarrier_expect_bytes(&barrier, (64 + 16) * 128);
    tma_load(rows, &row_map, &barrier, 0, 0);
    tma_load(few, &few_map, &barrier, 0, 0);
  }
  __syncthreads();
  mbarrier_wait(&barrier, 0);
  float scores[8] = {}, values[8] = {};
  wgmma_fence();
  for (int step = 0; step < 4; ++step) {
    wgmma_m64n16k16(scores, wgmma_descriptor(rows) + step * 2, wgmma_descriptor(few) + step * 2);
    wgmma_m64n16k16<true>(values, wgmma_descriptor_transposed(rows) + step * 128, wgmma_descriptor(few) + step * 2);
  }
  wgmma_commit();
  wgmma_wait<0>();
  store(out, scores);
  store(out + 64 * 16, values);
}

template <int N>
void check_wgmma() {
  CAPTURE(N);
  const Matrix Q(64, 128, 6), K(N, 128, 7), P(64, 64, 8), V(64, N, 9);
  const Buffer<bf16> q = on_device(Q.values), k = on_device(K.values), p = on_device(P.values), v = on_device(V.values);
  const TensorMap q_map = make_tensor_map(q.data(), 64, 128, 128, 64), k_map = make_tensor_map(k.data(), N, 128, 128, 64);
  const TensorMap p_map = make_tensor_map(p.data(), 64, 64, 64, 64), v_map = make_tensor_map(v.data(), 64, N, N, 64);
  std::vector<float> scores = product_nt(Q, K);
  for (float& score : scores) score *= 2;
  const std::vector<float> mixed = product_nn(P, V);
  CHECK((outputs<float>(64 * N, {1, 128, (64 + N) * std::size_t{256}}, wgmma_scores<N>, q_map, k_map) == scores));
  const Launch shape{1, 128, 64 * 128 + 64 * N * 2};
  CHECK((outputs<float>(64 * N, shape, wgmma_mix<N, false>, p.data(), p_map, v_map) == mixed));
  CHECK((outputs<float>(64 * N, shape, wgmma_mix<N, true>, p.data(), p_map, v_map) == mixed));
}

}  // namespace

TEST_CASE("wgmma: Q K^T, and P V from the same kind of tile transposed, P in shared memory or in registers", "[cuda]") {
  if (!can(device_properties().has_wgmma(), "wgmma")) return;
  check_wgmma<64>();
  check_wgmma<256>();
}

TEST_CASE("wgmma: the same tile as the left factor, along its rows and transposed, for 16 columns", "[cuda]") {
  if (!can(device_properties().has_wgmma(), "wgmma")) return;
  const Matrix rows(64, 64, 10), few(16, 64, 11);
  const Buffer<bf16> row_data = on_device(rows.values), few_data = on_device(few.values);
  const TensorMap row_map = make_tensor_map(row_data.data(), 64, 64, 64, 64), few_map = make_tensor_map(few_data.data(), 16, 64, 64, 16);
  const auto found = outputs<float>(2 * 64 * 16, {1, 128, (64 + 16) * 128}, wgmma_swapped, row_map, few_map);
  std::vector<float> expected = product_nt(rows, few);
  const std::vector<float> values = product_nn(few, rows);  // transposed
  for (std::size_t column = 0; column < 64; ++column)
    for (std::size_t h = 0; h < 16; ++h) expected.push_back(values[h * 64 + column]);
  CHECK((found == expected));
}
