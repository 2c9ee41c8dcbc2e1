/// @file
/// Kernels with one mistake each, and their corrections. `planted_bugs NAME wrong|right` runs one of them; the test
/// 06_planted_bugs_test runs all, in the build of the runtime that is to find the mistake. A kernel without mistake
/// leaves out[i] = i for all threads of the block.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <vector>

#include "common/cuda/hopper.hpp"
#include "common/cuda/memory.hpp"

using namespace kv::cuda;

namespace {

/// What every kernel gets: `out` (zeros), and a matrix (128,64) that `map` describes too. Its rows 0 to 63 are the unit
/// matrix, each row from 64 on is 0, 1 ... 63.
struct Data {
  float* out;
  const bf16* matrix;
};

constexpr unsigned all_lanes = 0xffffffffu;
constexpr int box_elements = 64 * 64;

__device__ float number() { return static_cast<float>(threadIdx.x); }

// ---- barriers ----------------------------------------------------------------------------------------------------

template <bool Right>
__global__ void missing_syncthreads(Data data, const __grid_constant__ TensorMap) {
  __shared__ float slots[128];
  slots[threadIdx.x ^ 32] = static_cast<float>(threadIdx.x ^ 32);
  if (Right) __syncthreads();
  data.out[threadIdx.x] = slots[threadIdx.x];
}

template <bool Right>
__global__ void missing_syncwarp(Data data, const __grid_constant__ TensorMap) {
  __shared__ float slots[32];
  slots[threadIdx.x ^ 1] = static_cast<float>(threadIdx.x ^ 1);
  if (Right) __syncwarp();
  data.out[threadIdx.x] = slots[threadIdx.x];
}

// A shuffle is not a barrier.
template <bool Right>
__global__ void shuffle_for_barrier(Data data, const __grid_constant__ TensorMap) {
  __shared__ float slots[32];
  slots[threadIdx.x ^ 1] = static_cast<float>(threadIdx.x ^ 1);
  if (Right)
    __syncwarp();
  else
    __shfl_sync(all_lanes, 0, 0);
  data.out[threadIdx.x] = slots[threadIdx.x];
}

template <bool Right>
__global__ void missing_second_barrier(Data data, const __grid_constant__ TensorMap) {
  __shared__ float slots[128];
  for (int round = 0; round < 2; ++round) {
    slots[threadIdx.x] = number();
    __syncthreads();
    data.out[threadIdx.x ^ 64] = slots[threadIdx.x ^ 64];
    if (Right) __syncthreads();  // the next round overwrites what others still read
  }
}

template <bool Right>
__global__ void named_barrier_too_few(Data data, const __grid_constant__ TensorMap) {
  __shared__ float slots[128];
  slots[threadIdx.x ^ 64] = static_cast<float>(threadIdx.x ^ 64);
  if (Right)
    named_barrier_sync(1, 128);
  else
    named_barrier_sync(1 + static_cast<int>(threadIdx.x) / 64, 64);
  data.out[threadIdx.x] = slots[threadIdx.x];
}

template <bool Right>
__global__ void divergent_barrier(Data data, const __grid_constant__ TensorMap) {
  if (Right) {
    __syncthreads();
  } else if (threadIdx.x < 64) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  data.out[threadIdx.x] = number();
}

template <bool Right>
__global__ void barrier_in_a_branch(Data data, const __grid_constant__ TensorMap) {
  data.out[threadIdx.x] = number();
  if (Right || threadIdx.x % 32 < 16) __syncthreads();
  __syncwarp();
}

template <bool Right>
__global__ void named_barrier_disagreement(Data data, const __grid_constant__ TensorMap) {
  named_barrier_sync(1, Right || threadIdx.x < 64 ? 128 : 64);
  data.out[threadIdx.x] = number();
}

enum class HandOverBug { arrives_to_read, no_empty, too_few, disagreement, none };

// Threads 0 to 31 leave numbers for the others, twice.
template <HandOverBug Bug>
__global__ void hand_over(Data data, const __grid_constant__ TensorMap) {  // 64 threads
  __shared__ float slots[32];
  for (int round = 0; round < 2; ++round) {
    if (threadIdx.x < 32) {
      if (round > 0 && Bug != HandOverBug::no_empty) named_barrier_sync(2, 64);
      slots[threadIdx.x] = number() + static_cast<float>(round * 32);
      if (Bug != HandOverBug::too_few || round == 0) named_barrier_arrive(1, Bug == HandOverBug::disagreement ? 96 : 64);
    } else {
      if (Bug == HandOverBug::arrives_to_read)
        named_barrier_arrive(1, 64);
      else
        named_barrier_sync(1, 64);
      data.out[threadIdx.x - 32 + static_cast<unsigned>(round) * 32] = slots[threadIdx.x - 32];
      if (round == 0 && Bug != HandOverBug::no_empty) named_barrier_arrive(2, 64);
    }
  }
}

// ---- warp operations ---------------------------------------------------------------------------------------------

template <bool Right>
__global__ void mask_names_exited_lanes(Data data, const __grid_constant__ TensorMap) {
  if (threadIdx.x >= 16) return;
  data.out[threadIdx.x] = __shfl_sync(Right ? 0x0000ffffu : all_lanes, number(), static_cast<int>(threadIdx.x));
}

template <bool Right>
__global__ void lane_outside_of_its_mask(Data data, const __grid_constant__ TensorMap) {
  data.out[threadIdx.x] = __shfl_sync(Right ? all_lanes : 0x0000ffffu, number(), static_cast<int>(threadIdx.x));
}

template <bool Right>
__global__ void masks_disagree(Data data, const __grid_constant__ TensorMap) {
  const unsigned mask = Right || threadIdx.x < 16 ? all_lanes : 0xfffffffeu;
  data.out[threadIdx.x] = __shfl_sync(mask, number(), static_cast<int>(threadIdx.x));
}

template <bool Right>
__global__ void operations_disagree(Data data, const __grid_constant__ TensorMap) {
  if (Right || threadIdx.x < 16)
    data.out[threadIdx.x] = __shfl_sync(all_lanes, number(), static_cast<int>(threadIdx.x));
  else
    data.out[threadIdx.x] = static_cast<float>(__ballot_sync(all_lanes, 1));
}

template <bool Right>
__global__ void shuffle_from_outside_the_mask(Data data, const __grid_constant__ TensorMap) {
  const float value = __shfl_sync(threadIdx.x < 16 ? 0x0000ffffu : 0xffff0000u, number(),
                                  static_cast<int>(Right ? threadIdx.x : threadIdx.x ^ 16));
  data.out[threadIdx.x] = value;
}

// ---- global memory -----------------------------------------------------------------------------------------------

template <bool Right>
__global__ void race_of_threads(Data data, const __grid_constant__ TensorMap) {
  if (!Right || threadIdx.x == 1) data.out[1] += 1;
}

// Each block adds what its predecessor's place needs; thread 0 of one and thread 0 of the other meet.
template <bool Right>
__global__ void race_of_blocks(Data data, const __grid_constant__ TensorMap) {
  if (threadIdx.x != 0) return;
  if (Right)
    atomicAdd(&data.out[2], 1.0f);
  else
    data.out[2] += 1;
}

// Static and dynamic shared memory are the block's own: two blocks do not race for them.
template <bool Right>
__global__ void last_block_adds_up(Data data, const __grid_constant__ TensorMap) {
  __shared__ bool last;
  float* mine = dynamic_shared<float>();
  mine[threadIdx.x] = number();
  data.out[100 + blockIdx.x] = blockIdx.x == 0 ? 3.0f : 0.0f;
  if (Right) __threadfence();
  if (threadIdx.x == 0) last = atomicAdd(&data.out[200], 1.0f) == static_cast<float>(gridDim.x - 1);
  __syncthreads();
  if (!last) return;
  if (Right) __threadfence();
  data.out[3] = data.out[100] + data.out[101];
  data.out[100] = data.out[101] = data.out[200] = 0;
}

template <bool Right>
__global__ void beyond_global_memory(Data data, const __grid_constant__ TensorMap) {
  data.out[threadIdx.x + (Right ? 0 : 256)] = number();
}

// ---- shared memory -----------------------------------------------------------------------------------------------

template <bool Right>
__global__ void beyond_dynamic_shared(Data data, const __grid_constant__ TensorMap) {
  float* slots = dynamic_shared<float>();  // 128 floats
  slots[threadIdx.x + (Right ? 0 : 1)] = number();
  data.out[threadIdx.x] = number();
}

template <bool Right>
__global__ void beyond_static_shared(Data data, const __grid_constant__ TensorMap) {
  __shared__ float slots[128];
  const unsigned place = threadIdx.x + (Right ? 0 : 1);
  slots[place] = number();
  __syncthreads();
  data.out[threadIdx.x] = slots[threadIdx.x];
}

template <bool Right>
__global__ void misaligned_vector(Data data, const __grid_constant__ TensorMap) {
  const bf16* row = data.matrix + 64 * 64 + (Right ? 0 : 1);
  const uint2 four = *reinterpret_cast<const uint2*>(row + threadIdx.x / 4 * 4);
  const unsigned pair = threadIdx.x % 4 < 2 ? four.x : four.y;
  data.out[threadIdx.x] = __uint_as_float(threadIdx.x % 2 == 0 ? pair << 16 : pair & 0xffff0000u);
}

template <bool Right>
__global__ void uninitialised_shared(Data data, const __grid_constant__ TensorMap) {
  float* sums = dynamic_shared<float>();
  if (Right) sums[threadIdx.x] = 0;
  sums[threadIdx.x] += number();
  data.out[threadIdx.x] = sums[threadIdx.x];
}

// ---- cp.async ----------------------------------------------------------------------------------------------------

/// out[i] = element i of a row that was copied to shared memory.
__device__ void take_row(float* out, const bf16* row) { out[threadIdx.x] = to_float(row[threadIdx.x]); }

enum class CopyBug { no_wait, wait_for_too_few, no_commit, no_barrier, exit_before_wait, overwrite, misaligned, none };

template <CopyBug Bug>
__global__ void copy_row(Data data, const __grid_constant__ TensorMap) {  // 64 threads
  bf16* row = dynamic_shared<bf16>();
  const bf16* source = data.matrix + 64 * 64;
  if (threadIdx.x < 8) cp_async_16(row + threadIdx.x * 8 + (Bug == CopyBug::misaligned ? 1 : 0), source + threadIdx.x * 8);
  if (Bug != CopyBug::no_commit) cp_async_commit();
  if (Bug == CopyBug::wait_for_too_few) cp_async_wait<1>();
  if (Bug == CopyBug::no_commit || Bug == CopyBug::no_barrier || Bug == CopyBug::overwrite || Bug == CopyBug::none)
    cp_async_wait<0>();
  if (Bug != CopyBug::no_barrier) __syncthreads();
  take_row(data.out, row);
  if (Bug == CopyBug::none) __syncthreads();
  if (Bug == CopyBug::overwrite || Bug == CopyBug::none) {  // the next row into the same place
    if (threadIdx.x < 8) cp_async_16(row + threadIdx.x * 8, source + 64 + threadIdx.x * 8);
    cp_async_commit();
  }
  if (Bug != CopyBug::exit_before_wait) {
    cp_async_commit();
    cp_async_wait<0>();
  }
}

// ---- mbarrier, TMA and wgmma -------------------------------------------------------------------------------------

enum class BoxBug {
  no_wait, nobody_waits, too_few_bytes, no_init, no_init_done, init_done_first, init_unseen, too_many_arrivals, misaligned, none
};

template <BoxBug Bug>
__global__ void take_box(Data data, const __grid_constant__ TensorMap map) {  // 64 threads
  bf16* box = dynamic_shared<bf16>();
  __shared__ mbarrier full;
  if (threadIdx.x == 0 && Bug != BoxBug::no_init) {
    if (Bug == BoxBug::init_done_first) mbarrier_init_done();
    mbarrier_init(&full, 1);
    if (Bug != BoxBug::init_done_first && Bug != BoxBug::no_init_done) mbarrier_init_done();
  }
  if (Bug != BoxBug::init_unseen) __syncthreads();
  if (threadIdx.x == 0) {
    mbarrier_expect_bytes(&full, Bug == BoxBug::too_few_bytes ? 4096 : box_bytes);
    tma_load(box + (Bug == BoxBug::misaligned ? 64 : 0), &map, &full, 0, 64);
  }
  if (Bug == BoxBug::too_many_arrivals) mbarrier_arrive(&full);
  if (Bug != BoxBug::no_wait && Bug != BoxBug::nobody_waits) mbarrier_wait(&full, 0);
  take_row(data.out, box);  // row 0: not swizzled
  if (Bug != BoxBug::nobody_waits) mbarrier_wait(&full, 0);
}

enum class PipelineBug { early_release, no_empty_wait, no_full_wait, no_wgmma_wait, no_fence, exit_before_wait, outside, none };

// Thread 128 loads the unit matrix and the numbers (full[0] says when they are there), then overwrites the numbers
// (full[1]); 128 threads multiply in between: row i of the product is i, for i < 16.
template <PipelineBug Bug>
__global__ void multiply_box(Data data, const __grid_constant__ TensorMap map) {  // 160 threads
  bf16 *unit = dynamic_shared<bf16>(), *numbers = unit + box_elements;
  __shared__ mbarrier full[2], empty;
  if (threadIdx.x == 0) {
    mbarrier_init(&full[0], 1), mbarrier_init(&full[1], 1), mbarrier_init(&empty, 128);
    mbarrier_init_done();
  }
  __syncthreads();
  if (threadIdx.x == 128) {
    mbarrier_expect_bytes(&full[0], 2 * box_bytes);
    tma_load(unit, &map, &full[0], 0, 0);
    tma_load(numbers, &map, &full[0], 0, 64);
    if (Bug != PipelineBug::no_empty_wait) mbarrier_wait(&empty, 0);
    mbarrier_expect_bytes(&full[1], box_bytes);
    tma_load(numbers, &map, &full[1], 0, 0);
    mbarrier_wait(&full[0], 0);
    mbarrier_wait(&full[1], 0);
  }
  if (threadIdx.x >= 128) return;
  if (Bug != PipelineBug::no_full_wait) mbarrier_wait(&full[0], 0);
  float d[32] = {};
  if (Bug != PipelineBug::no_fence) wgmma_fence();
  wgmma_m64n64k16(d, wgmma_descriptor(unit), wgmma_descriptor(numbers) + (Bug == PipelineBug::outside ? 510 : 0));
  wgmma_commit();
  if (Bug == PipelineBug::early_release) mbarrier_arrive(&empty);
  if (Bug != PipelineBug::no_wgmma_wait && Bug != PipelineBug::exit_before_wait) wgmma_wait<0>();
  if (Bug != PipelineBug::early_release) mbarrier_arrive(&empty);
  if (threadIdx.x < 32 && threadIdx.x % 4 == 0) {
    data.out[threadIdx.x / 4] = d[0];
    data.out[threadIdx.x / 4 + 8] = d[2];
  }
  if (Bug != PipelineBug::exit_before_wait) wgmma_wait<0>();
}

enum class FlightBug { read, scaled, no_second_fence, a_unfenced, a_changed, none };

// The numbers, halved, and half of them again: with a half unit matrix in registers. Row i of the sum is i, for i < 16.
template <FlightBug Bug>
__global__ void multiply_halves(Data data, const __grid_constant__ TensorMap map) {  // 128 threads
  bf16 *unit = dynamic_shared<bf16>(), *numbers = unit + box_elements;
  __shared__ mbarrier full;
  if (threadIdx.x == 0) {
    mbarrier_init(&full, 1);
    mbarrier_init_done();
    mbarrier_expect_bytes(&full, 2 * box_bytes);
    tma_load(unit, &map, &full, 0, 0);
    tma_load(numbers, &map, &full, 0, 64);
  }
  __syncthreads();
  mbarrier_wait(&full, 0);
  float d[32] = {};
  const auto halve = [&] {
    for (float& x : d) x *= 0.5f;
  };
  wgmma_fence();
  wgmma_m64n64k16(d, wgmma_descriptor(unit), wgmma_descriptor(numbers));
  wgmma_commit();
  if (Bug == FlightBug::scaled) halve();
  if (Bug == FlightBug::read && threadIdx.x == 0) data.out[0] = d[0];
  wgmma_wait<0>();
  if (Bug != FlightBug::a_unfenced) halve();
  std::uint32_t a[4] = {};
  for (int i = 0; i < 4; ++i) {
    const int row = static_cast<int>(threadIdx.x) / 4 + i % 2 * 8, column = static_cast<int>(threadIdx.x) % 4 * 2 + i / 2 * 8;
    if (row == column) a[i] = 0x00003f00u;
    if (row == column + 1) a[i] = 0x3f000000u;
  }
  if (Bug != FlightBug::no_second_fence && Bug != FlightBug::a_unfenced) wgmma_fence();
  wgmma_m64n64k16(d, a, wgmma_descriptor(numbers));
  wgmma_commit();
  if (Bug == FlightBug::a_changed) a[0] = 0;
  wgmma_wait<0>();
  if (Bug != FlightBug::read && threadIdx.x < 32 && threadIdx.x % 4 == 0) {
    data.out[threadIdx.x / 4] = d[0];
    data.out[threadIdx.x / 4 + 8] = d[2];
  }
}

enum class ProxyBug { product, box, second_store, none };

// Stores the numbers where a product reads them, then lets TMA write there.
template <ProxyBug Bug>
__global__ void store_and_multiply(Data data, const __grid_constant__ TensorMap map) {  // 128 threads
  bf16 *unit = dynamic_shared<bf16>(), *numbers = unit + box_elements;
  const int thread = static_cast<int>(threadIdx.x);
  __shared__ mbarrier full[2];
  if (thread == 0) {
    mbarrier_init(&full[0], 1), mbarrier_init(&full[1], 1);
    mbarrier_init_done();
    mbarrier_expect_bytes(&full[0], box_bytes);
    tma_load(unit, &map, &full[0], 0, 0);
  }
  const auto store = [&](int row) { numbers[row * 64 + thread % 64] = data.matrix[64 * 64 + (thread % 64 ^ row % 8 * 8)]; };
  for (int row = thread / 64; row < 64; row += 2) store(row);
  if (Bug != ProxyBug::product) fence_proxy_async();
  if (Bug == ProxyBug::second_store) store(thread / 64);
  __syncthreads();
  mbarrier_wait(&full[0], 0);
  float d[32] = {};
  wgmma_fence();
  wgmma_m64n64k16(d, wgmma_descriptor(unit), wgmma_descriptor(numbers));
  wgmma_commit();
  wgmma_wait<0>();
  if (thread < 32 && thread % 4 == 0) data.out[thread / 4] = d[0], data.out[thread / 4 + 8] = d[2];
  __syncthreads();
  for (int row = thread / 64; row < 64; row += 2) numbers[row * 64 + thread % 64] = {};
  if (Bug != ProxyBug::box) fence_proxy_async();
  __syncthreads();
  if (thread == 0) {
    mbarrier_expect_bytes(&full[1], box_bytes);
    tma_load(numbers, &map, &full[1], 0, 0);
  }
  mbarrier_wait(&full[1], 0);
}

// ---- clusters ----------------------------------------------------------------------------------------------------

enum class PeerBug { no_first_sync, no_last_sync, arrives_too_late, static_variable, no_such_rank, none };

// Each thread takes over what its twin in the other block has stored.
template <PeerBug Bug>
__global__ void take_over(Data data, const __grid_constant__ TensorMap) {  // 2 x 64 threads
  float* slots = dynamic_shared<float>();
  auto* heard = reinterpret_cast<mbarrier*>(slots + 64);
  __shared__ float elsewhere[64];
  const int other = 1 - cluster_rank();
  const float* theirs = in_block(Bug == PeerBug::static_variable ? elsewhere : slots, Bug == PeerBug::no_such_rank ? 2 : other);
  const unsigned self = threadIdx.x;
  if (self == 0) mbarrier_init(heard, 64);
  slots[self] = static_cast<float>(blockIdx.x * 64 + self);
  if (Bug != PeerBug::no_first_sync) cluster_sync();
  data.out[static_cast<unsigned>(other) * 64 + self] = theirs[self];
  if (Bug == PeerBug::arrives_too_late && blockIdx.x == 1) return;
  if (Bug != PeerBug::no_last_sync && Bug != PeerBug::arrives_too_late) mbarrier_arrive_in_block(heard, other);
  if (Bug != PeerBug::no_last_sync) cluster_sync();
  if (Bug == PeerBug::arrives_too_late) mbarrier_arrive_in_block(heard, other);
}

enum class ShareBug { no_init_sync, expects_own_bytes, nobody_else_heard, no_such_rank, nobody_waits, none };

// Each block fetches one of two boxes for both, twice: what was unit matrix becomes the numbers, and the other way round.
template <ShareBug Bug>
__global__ void share_boxes(Data data, const __grid_constant__ TensorMap map) {  // 2 x 64 threads
  bf16* boxes = dynamic_shared<bf16>();
  auto *full = reinterpret_cast<mbarrier*>(boxes + 2 * box_elements), *empty = full + 1;
  const int rank = cluster_rank();
  if (threadIdx.x == 0) {
    mbarrier_init(full, 1), mbarrier_init(empty, Bug == ShareBug::nobody_else_heard ? 64 : 2 * 64);
    mbarrier_init_done();
  }
  if (Bug == ShareBug::no_init_sync)
    __syncthreads();
  else
    cluster_sync();
  const auto fetch = [&](int row) {
    mbarrier_expect_bytes(full, Bug == ShareBug::expects_own_bytes ? box_bytes : 2 * box_bytes);
    tma_load_multicast(boxes + rank * box_elements, &map, full, 0, row, Bug == ShareBug::no_such_rank ? 6 : 3);
  };
  if (threadIdx.x == 0) fetch(rank * 64);
  mbarrier_wait(full, 0);
  float sum = to_float(boxes[box_elements + threadIdx.x]);
  if (Bug != ShareBug::nobody_else_heard) mbarrier_arrive_in_block(empty, 1 - rank);
  mbarrier_arrive(empty);
  if (threadIdx.x == 0) {
    mbarrier_wait(empty, 0);
    fetch((1 - rank) * 64);
  }
  if (Bug != ShareBug::nobody_waits) mbarrier_wait(full, 1);
  if (Bug != ShareBug::nobody_waits) sum += to_float(boxes[threadIdx.x]);
  data.out[blockIdx.x * 64 + threadIdx.x] = sum / 2 + static_cast<float>(blockIdx.x) * 64;
  cluster_sync();
}

// ---- programmatic dependent launch -------------------------------------------------------------------------------

enum class EarlyBug { reads, writes, nobody_waits, none };

// Launched three times, early: each thread looks at what another one of the last grid has left.
template <EarlyBug Bug>
__global__ void relay(Data data, const __grid_constant__ TensorMap) {  // 64 threads
  float* const other = &data.out[threadIdx.x ^ 32];
  let_next_grid_begin();
  float before = Bug == EarlyBug::reads ? *other : 0.0f;
  if (Bug == EarlyBug::writes) *other = 0.0f;
  if (Bug != EarlyBug::nobody_waits) wait_for_last_grid();
  if (Bug != EarlyBug::reads) before = *other;
  __syncthreads();
  data.out[threadIdx.x] = number() + 0.0f * before;
}

// ---- the table ---------------------------------------------------------------------------------------------------

using Kernel = void (*)(Data, TensorMap);

struct Case {
  const char* name;
  int first, count;  ///< out[first] ... have their numbers, all others are 0
  Launch shape;
  Kernel wrong, right;
};

#define BOTH(name) name<false>, name<true>

const Case cases[] = {
    {"missing_syncthreads", 0, 128, {1, 128}, BOTH(missing_syncthreads)},
    {"missing_syncwarp", 0, 32, {1, 32}, BOTH(missing_syncwarp)},
    {"shuffle_for_barrier", 0, 32, {1, 32}, BOTH(shuffle_for_barrier)},
    {"missing_second_barrier", 0, 128, {1, 128}, BOTH(missing_second_barrier)},
    {"named_barrier_too_few", 0, 128, {1, 128}, BOTH(named_barrier_too_few)},
    {"divergent_barrier", 0, 128, {1, 128}, BOTH(divergent_barrier)},
    {"barrier_in_a_branch", 0, 128, {1, 128}, BOTH(barrier_in_a_branch)},
    {"named_barrier_disagreement", 0, 128, {1, 128}, BOTH(named_barrier_disagreement)},
#define HAND_OVER_BUG(bug) {"hand_over_" #bug, 0, 64, {1, 64}, hand_over<HandOverBug::bug>, hand_over<HandOverBug::none>}
    HAND_OVER_BUG(arrives_to_read), HAND_OVER_BUG(no_empty), HAND_OVER_BUG(too_few), HAND_OVER_BUG(disagreement),
    {"mask_names_exited_lanes", 0, 16, {1, 32}, BOTH(mask_names_exited_lanes)},
    {"lane_outside_of_its_mask", 0, 32, {1, 32}, BOTH(lane_outside_of_its_mask)},
    {"masks_disagree", 0, 32, {1, 32}, BOTH(masks_disagree)},
    {"operations_disagree", 0, 32, {1, 32}, BOTH(operations_disagree)},
    {"shuffle_from_outside_the_mask", 0, 32, {1, 32}, BOTH(shuffle_from_outside_the_mask)},
    {"race_of_threads", 1, 1, {1, 64}, BOTH(race_of_threads)},
    {"race_of_blocks", 2, 1, {2, 32}, BOTH(race_of_blocks)},
    {"last_block_adds_up", 3, 1, {2, 1, 512}, BOTH(last_block_adds_up)},
    {"beyond_global_memory", 0, 128, {1, 128}, BOTH(beyond_global_memory)},
    {"beyond_dynamic_shared", 0, 128, {1, 128, 512}, BOTH(beyond_dynamic_shared)},
    {"beyond_static_shared", 0, 128, {1, 128}, BOTH(beyond_static_shared)},
    {"misaligned_vector", 0, 64, {1, 64}, BOTH(misaligned_vector)},
    {"uninitialised_shared", 0, 128, {1, 128, 512}, BOTH(uninitialised_shared)},
#define COPY_BUG(bug) \
  {"copy_" #bug, 0, 64, {1, 64, 256}, copy_row<CopyBug::bug>, copy_row<CopyBug::none>}
    COPY_BUG(no_wait), COPY_BUG(wait_for_too_few), COPY_BUG(no_commit), COPY_BUG(no_barrier), COPY_BUG(exit_before_wait),
    COPY_BUG(overwrite), COPY_BUG(misaligned),
#define BOX_BUG(bug) \
  {"box_" #bug, 0, 64, {1, 64, 2 * box_bytes}, take_box<BoxBug::bug>, take_box<BoxBug::none>}
    BOX_BUG(no_wait), BOX_BUG(nobody_waits), BOX_BUG(too_few_bytes), BOX_BUG(no_init), BOX_BUG(no_init_done),
    BOX_BUG(init_done_first), BOX_BUG(init_unseen),
    BOX_BUG(too_many_arrivals), BOX_BUG(misaligned),
#define PIPELINE_BUG(bug)                                                                \
  {"pipeline_" #bug, 0, 16, {1, 160, 2 * box_bytes}, multiply_box<PipelineBug::bug>, \
   multiply_box<PipelineBug::none>}
    PIPELINE_BUG(early_release), PIPELINE_BUG(no_empty_wait), PIPELINE_BUG(no_full_wait), PIPELINE_BUG(no_wgmma_wait),
    PIPELINE_BUG(no_fence), PIPELINE_BUG(exit_before_wait), PIPELINE_BUG(outside),
#define FLIGHT_BUG(bug)                                                                \
  {"flight_" #bug, 0, 16, {1, 128, 2 * box_bytes}, multiply_halves<FlightBug::bug>, \
   multiply_halves<FlightBug::none>}
    FLIGHT_BUG(read), FLIGHT_BUG(scaled), FLIGHT_BUG(no_second_fence), FLIGHT_BUG(a_unfenced), FLIGHT_BUG(a_changed),
#define PROXY_BUG(bug)                                                                  \
  {"proxy_" #bug, 0, 16, {1, 128, 2 * box_bytes}, store_and_multiply<ProxyBug::bug>, \
   store_and_multiply<ProxyBug::none>}
    PROXY_BUG(product), PROXY_BUG(box), PROXY_BUG(second_store),
#define PEER_BUG(bug) \
  {"peer_" #bug, 0, 128, {2, 64, 512, nullptr, 2}, take_over<PeerBug::bug>, take_over<PeerBug::none>}
    PEER_BUG(no_first_sync), PEER_BUG(no_last_sync), PEER_BUG(arrives_too_late), PEER_BUG(static_variable),
    PEER_BUG(no_such_rank),
#define SHARE_BUG(bug)                                                                        \
  {"share_" #bug, 0, 128, {2, 64, 2 * box_bytes + 16, nullptr, 2}, share_boxes<ShareBug::bug>, \
   share_boxes<ShareBug::none>}
    SHARE_BUG(no_init_sync), SHARE_BUG(expects_own_bytes), SHARE_BUG(nobody_else_heard), SHARE_BUG(no_such_rank),
    SHARE_BUG(nobody_waits),
#define EARLY_BUG(bug) {"early_" #bug, 0, 64, {.grid = 1, .block = 64, .early = true}, relay<EarlyBug::bug>, relay<EarlyBug::none>}
    EARLY_BUG(reads), EARLY_BUG(writes), EARLY_BUG(nobody_waits),
};

std::vector<bf16> matrix() {
  std::vector<bf16> values;
  for (int row = 0; row < 128; ++row)
    for (int column = 0; column < 64; ++column)
      values.push_back(to_bf16(row >= 64 ? static_cast<float>(column) : row == column ? 1.0f : 0.0f));
  return values;
}

/// @return is out[i] = i where it should be?
bool run(const Case& chosen, bool right) {
  const std::vector<bf16> host = matrix();
  const Buffer<bf16> matrix{std::span<const bf16>(host)};
  Buffer<float> out(std::span<const float>(std::vector<float>(256, 0.0f)));
  const TensorMap map = make_tensor_map(matrix.data(), 128, 64, 64, 64);
  for (int i = 0; i < (chosen.shape.early ? 3 : 1); ++i)
    launch(chosen.shape, right ? chosen.right : chosen.wrong, Data{out.data(), matrix.data()}, map);
  const std::vector<float> result = out.download();
  for (int i = 0; i < 256; ++i) {
    const float expected = i >= chosen.first && i < chosen.first + chosen.count ? static_cast<float>(i) : 0.0f;
    if (result[i] == expected) continue;
    std::fprintf(stderr, "wrong result: out[%d] is %s\n", i, std::isnan(result[i]) ? "NaN" : "another number");
    return false;
  }
  return true;
}

}  // namespace

int main(int count, char** words) {
  for (const Case& chosen : cases)
    if (count == 3 && std::strcmp(words[1], chosen.name) == 0) return run(chosen, std::strcmp(words[2], "right") == 0) ? 0 : 1;
  std::fprintf(stderr, "usage: planted_bugs NAME wrong|right\n");
  return 2;
}
