#include "common/cuda/simt/block.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <random>

#include "common/cuda/simt/cuda_runtime.hpp"
#include "common/cuda/simt/sanitizer.hpp"
#include "common/cuda/simt/traffic.hpp"

namespace simt {
namespace {

thread_local Block* current_block = nullptr;

const char* file_name(const Where& where) {
  const char* slash = std::strrchr(where.file_name(), '/');
  return slash ? slash + 1 : where.file_name();
}

const char* place_name(State state) {
  switch (state) {
    case State::at_warp: return "a warp operation";
    case State::at_warpgroup: return "wgmma";
    case State::at_block: return "__syncthreads";
    case State::at_cluster: return "cluster_sync";
    case State::at_named: return "named barrier";
    case State::at_mbarrier: return "an mbarrier";
    default: return "nothing";
  }
}

/// The numbers 0 ... count-1: forward, backward, or shuffled.
template <class Numbers>
void set_order(Numbers& numbers, unsigned order) {
  std::iota(numbers.begin(), numbers.end(), 0u);
  if (order == 1) std::reverse(numbers.begin(), numbers.end());
  if (order > 1) std::shuffle(numbers.begin(), numbers.end(), std::minstd_rand(order));
}

}  // namespace

Block* Block::current() { return current_block; }

unsigned Cluster::live() const {
  unsigned sum = 0;
  for (const Block* block : blocks) sum += block->live();
  return sum;
}

void run_cluster(const Grid& grid, const std::vector<Block*>& blocks, std::size_t first, const std::vector<char*>& shared) {
  Cluster cluster{blocks, {}};
  for (std::size_t rank = 0; rank < blocks.size(); ++rank) {
    const std::size_t i = first + rank;
    const uint3 index{unsigned(i % grid.grid.x), unsigned(i / grid.grid.x % grid.grid.y),
                      unsigned(i / grid.grid.x / grid.grid.y)};
    blocks[rank]->reset(grid, index, shared[rank]);
    blocks[rank]->cluster = &cluster;
  }
  release(grid.begins);  // after shared memory has been filled, which counts as a write
  while (cluster.live() > 0) {
    bool ran = false;
    for (std::size_t turn = 0; turn < blocks.size(); ++turn)
      ran |= blocks[grid.order == 1 ? blocks.size() - 1 - turn : turn]->take_turn();
    if (ran) continue;
    for (Block* block : blocks)
      if (block->live() > 0) block->report_deadlock();
    std::abort();
  }
  current_block = nullptr;
  for (Block* block : blocks) block->require_no_copies();
}

bool Block::take_turn() {
  current_block = this;
  blockIdx = index_;
  return run_round();
}

void Block::require_no_copies() {
  if (box_copies.empty()) return;
  std::fprintf(stderr, "simt: block %u,%u,%u ends with TMA copies that nobody waited for\n", index_.x, index_.y, index_.z);
  std::abort();
}

void Block::reset(const Grid& grid, uint3 index, char* shared_memory) {
  grid_ = &grid;
  blockDim = grid.block, gridDim = grid.grid, index_ = index;
  shared = shared_memory, shared_bytes = grid.shared_bytes;
  allow(shared, shared_bytes);
  if (shared_bytes > 0) std::memset(shared, 0xff, shared_bytes);  // NaN, to whoever reads before writing
  whole.arrived = 0;
  for (NamedBarrier& barrier : named) barrier.arrived = 0, barrier.here.reset();
  mbarriers.clear(), box_copies.clear();
  stores_begin = simt::stores_begin();
  mbarriers.reserve(256), box_copies.reserve(4096);  // no thread of the block frees what another has allocated
  for (Warp& warp : warps_) warp.live = warp.arrived = 0;
  for (Warpgroup& group : warpgroups_) group.arrived = 0;
  count_ = live_ = grid.block.x * grid.block.y * grid.block.z;
  warp_order_.resize((count_ + warp_size - 1) / warp_size);
  set_order(warp_order_, grid.order);
  set_order(lane_order_, grid.order);
  prepare_threads();
}

void Block::prepare_threads() {
  while (threads_.size() < count_) threads_.push_back(std::make_unique<Thread>());
  const dim3 size = grid_->block;
  for (unsigned number = 0; number < count_; ++number) {
    Thread& thread = *threads_[number];
    thread.number = number;
    thread.index = {number % size.x, number / size.x % size.y, number / (size.x * size.y)};
    thread.state = State::ready;
    thread.copy_group = thread.wgmma_group = 0;
    thread.fenced_at = 0;
    thread.wgmma_fenced = thread.fenced = false;
    thread.atomics.clear();
    thread.fiber.prepare(&thread_main, number * 272 % 4096);  // staggered: equal offsets would share a set of the cache
    warps_[number / warp_size].live |= 1u << number % warp_size;
  }
}

bool Block::run_round() {
  bool ran = false;
  for (const unsigned warp : warp_order_)
    while (run_warp(warp)) ran = true;
  return ran;
}

bool Block::run_warp(unsigned warp) {
  bool ran = false;
  for (const unsigned lane : lane_order_) {
    const unsigned number = warp * warp_size + lane;
    if (number >= count_) continue;
    Thread& thread = *threads_[number];
    if (thread.state == State::at_mbarrier && phase_passed(*this, thread.mbarrier, thread.parity))
      thread.state = State::ready;
    if (thread.state != State::ready) continue;
    run_thread(thread);
    ran = true;
  }
  return ran;
}

void Block::run_thread(Thread& thread) {
  running_ = &thread;
  threadIdx = thread.index;
  thread.fiber.resume();
}

void Block::thread_main() {
  Block& block = *current_block;
  block.self().fiber.begin();
  acquire(block.grid_->begins);
  block.self().accumulators.clear();  // by this thread, which has allocated them
  (*block.grid_->thread)();
  block.leave();
  release(block.grid_->ends);
  block.self().fiber.finish();
}

void Block::leave() {
  Thread& thread = self();
  if (!thread.copies.empty()) die("the thread exits with cp.async copies that it never waited for", thread.where);
  if (!thread.wgmmas.empty()) die("the thread exits with wgmmas that it never waited for", thread.where);
  thread.state = State::exited;
  const unsigned first = thread.number - thread.number % warp_size, lane = thread.number % warp_size;
  for (unsigned number = first; number < first + warp_size && number < count_; ++number)
    if (threads_[number]->state == State::at_warp && threads_[number]->mask >> lane & 1)
      die("warp operation: the mask names a lane that has exited", threads_[number]->where);
  warp().live &= ~(1u << lane);
  --live_;
  if (live_ > 0 && whole.arrived == live_) release_block_barrier(*this);  // they need not wait for this one
  if (cluster->blocks.size() > 1) {
    if (cluster->live() > 0 && cluster->whole.arrived == cluster->live()) release_cluster_barrier(*cluster);
    release(this);
    if (live_ == 0) end_shared_memory();
  }
}

/// What another block of the cluster reads or writes here from now on is nobody's.
void Block::end_shared_memory() {
  acquire(this);  // all its threads have left
  if (shared_bytes > 0) std::memset(shared, 0xff, shared_bytes);
  forbid(shared, shared_bytes);
}

void Block::park(State state) {
  running_->state = state;
  running_->fiber.suspend();
}

void Block::report_deadlock() {
  std::fprintf(stderr, "simt: deadlock in block %u,%u,%u:", index_.x, index_.y, index_.z);
  for (unsigned first = 0; first < count_;) {
    const Thread& waiting = *threads_[first];
    unsigned last = first;
    while (last + 1 < count_ && threads_[last + 1]->state == waiting.state &&
           threads_[last + 1]->where.line() == waiting.where.line())
      ++last;
    std::fprintf(stderr, "%s threads %u to %u ", first > 0 ? ";" : "", first, last);
    if (waiting.state == State::exited) {
      std::fprintf(stderr, "have exited");
    } else {
      std::fprintf(stderr, "wait for %s", place_name(waiting.state));
      if (waiting.state == State::at_named) std::fprintf(stderr, " %d", waiting.named);
      if (waiting.state == State::at_mbarrier) std::fprintf(stderr, " (%s missing)", missing_from(waiting.mbarrier).data());
      std::fprintf(stderr, " at %s:%u", file_name(waiting.where), waiting.where.line());
    }
    first = last + 1;
  }
  std::fprintf(stderr, "\n");
}

void die(const char* mistake, const Where& where) {
  const unsigned line = where.line();
  std::fprintf(stderr, "simt: %s", mistake);
  if (line > 0) std::fprintf(stderr, " at %s:%u", file_name(where), line);
  std::fprintf(stderr, " (block %u,%u,%u thread %u,%u,%u)\n", blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x,
               threadIdx.y, threadIdx.z);
  std::abort();
}

bool in_kernel() { return current_block != nullptr; }
char* dynamic_shared() { return current_block->shared; }
std::size_t dynamic_shared_bytes() { return current_block->shared_bytes; }
unsigned lane() { return current_block->self().number % warp_size; }

}  // namespace simt
