#pragma once
/// @file
/// One block: its threads, what they wait for, its shared memory; and the scheduler that gives every thread its turn.
/// A thread runs until it must wait, so in a correct kernel the order of turns changes nothing. The blocks of a cluster
/// take turns on one thread of the operating system.
#include <array>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "common/cuda/simt/fiber.hpp"
#include "common/cuda/simt/proxy.hpp"
#include "common/cuda/simt/runtime.hpp"

namespace simt {

enum class State : std::uint8_t { ready, at_warp, at_warpgroup, at_block, at_cluster, at_named, at_mbarrier, exited };

/// A 16-byte copy of cp.async that has not been performed.
struct AsyncCopy {
  void* shared;
  const void* global;
  int group;
};

/// A TMA copy that has not been performed.
struct BoxCopy {
  char* shared;
  TensorMap map;
  std::uint64_t* barrier;
  int column, row;
};

/// An accumulator of wgmma, one thread's part. While products are under way the kernel finds poison in its place.
struct Accumulator {
  float* d;
  unsigned count;
  int in_flight = 0;  ///< products that were not waited for
  float values[128];  ///< what they are added to; afterwards what the last wait left in `d`
};

/// A wgmma that has not been performed.
struct Product {
  Wgmma operation;
  int group;
  Accumulator* sum;
  std::uint32_t a[4];  ///< A in registers, as it was when the product was asked for
};

/// An mbarrier that was initialised.
struct Initialised {
  std::uint64_t* barrier;
  unsigned thread;    ///< who did it
  unsigned meeting;   ///< of the cluster, that came next
  bool seen = false;  ///< by TMA: that thread has called mbarrier_init_done since
};

/// One CUDA thread.
struct Thread {
  Fiber fiber;
  unsigned number = 0;  ///< in the block: x runs fastest
  uint3 index{};
  State state = State::exited;
  Where where;             ///< of the runtime's last call
  unsigned mask = 0;       ///< at_warp
  int named = 0;           ///< at_named
  std::uint64_t* mbarrier = nullptr;  ///< at_mbarrier
  unsigned parity = 0;

  std::vector<AsyncCopy> copies;
  int copy_group = 0;
  std::vector<Product> wgmmas;
  std::deque<Accumulator> accumulators;  ///< by address; they stay where they are
  int wgmma_group = 0;
  bool wgmma_fenced = false;  ///< since the last wait
  std::vector<const void*> atomics;  ///< since the last fence, for the race detector
  bool fenced = false;
  unsigned fenced_at = 0;  ///< when the last fence_proxy_async was, as stores count time
};

/// Threads that meet. The race detector hears of each meeting under an address of its own.
struct Barrier {
  unsigned arrived = 0, meeting = 0;
  char order[2] = {};
};

struct Warp {
  unsigned live = 0;     ///< lanes that have not exited
  unsigned arrived = 0;  ///< lanes that wait in a warp operation
  WarpOperation operation[warp_size] = {};
  void* operands[warp_size] = {};
  Barrier barriers[warp_size];  ///< of __syncwarp, by the first lane of the mask
};

struct Warpgroup {
  unsigned arrived = 0;
  const void* operands[warpgroup_size] = {};
};

struct NamedBarrier : Barrier {
  unsigned threads = 0;  ///< how many the first to arrive has asked for
  std::bitset<max_threads> here;
};

struct Grid : Shape {
  const std::function<void()>* thread;
  unsigned order;
  /// Addresses that stand for these moments, for the race detector; of the last grid its end.
  const void *begins = nullptr, *ends = nullptr, *last_ends = nullptr;
};

class Block;

/// Blocks that run at the same time and reach each other's dynamic shared memory.
struct Cluster {
  std::vector<Block*> blocks;  ///< by rank
  Barrier whole;               ///< of cluster_sync
  unsigned live() const;
};

/// Runs blocks first, first+1 ... of a grid, a cluster. @param shared the dynamic shared memory of each
void run_cluster(const Grid& grid, const std::vector<Block*>& blocks, std::size_t first, const std::vector<char*>& shared);

class Block {
 public:
  /// The block whose thread is calling; null outside a kernel.
  static Block* current();

  Thread& self() { return *running_; }
  Warp& warp() { return warps_[running_->number / warp_size]; }
  Warpgroup& warpgroup() { return warpgroups_[running_->number / warpgroup_size]; }
  unsigned live() const { return live_; }
  unsigned size() const { return count_; }
  Thread& thread(unsigned number) { return *threads_[number]; }

  const Grid& grid() const { return *grid_; }
  /// The calling thread waits until somebody wakes it.
  void park(State state);
  /// Wakes threads first ... first+count-1, those that wait in `state` and `chosen` accepts.
  template <class Chosen>
  void wake(State state, unsigned first, unsigned count, Chosen chosen) {
    for (unsigned number = first; number < first + count && number < count_; ++number)
      if (thread(number).state == state && chosen(thread(number))) thread(number).state = State::ready;
  }
  void wake(State state, unsigned first, unsigned count) {
    wake(state, first, count, [](const Thread&) { return true; });
  }

  char* shared = nullptr;
  std::size_t shared_bytes = 0;
  Cluster* cluster = nullptr;
  Barrier whole;                          ///< of __syncthreads
  std::array<NamedBarrier, 16> named;
  std::vector<Initialised> mbarriers;
  std::vector<BoxCopy> box_copies;
  std::vector<Store> stores;              ///< for each two bytes of dynamic shared memory
  unsigned stores_begin = 0;

 private:
  friend void run_cluster(const Grid&, const std::vector<Block*>&, std::size_t, const std::vector<char*>&);
  static void thread_main();
  void reset(const Grid& grid, uint3 index, char* shared);
  void prepare_threads();
  bool take_turn();
  bool run_round();
  bool run_warp(unsigned warp);
  void run_thread(Thread& thread);
  void leave();
  void end_shared_memory();
  void report_deadlock();
  void require_no_copies();

  const Grid* grid_ = nullptr;
  uint3 index_{};
  unsigned count_ = 0, live_ = 0;
  std::vector<std::unique_ptr<Thread>> threads_;
  std::array<Warp, max_threads / warp_size> warps_;
  std::array<Warpgroup, max_threads / warpgroup_size> warpgroups_;
  std::vector<unsigned> warp_order_;
  std::array<unsigned, warp_size> lane_order_;
  Thread* running_ = nullptr;
};

/// Joins the meeting that is being gathered. @return what stands for it, to the race detector
char* join(Barrier& barrier);
void open(Barrier& barrier);
/// Does the barrier's phase of this parity lie behind? Copies that would complete it are performed first.
bool phase_passed(Block& block, std::uint64_t* barrier, unsigned parity);
/// What is missing, for a report: "2 arrivals and 8192 bytes".
std::array<char, 96> missing_from(const std::uint64_t* barrier);
void release_block_barrier(Block& block);
void release_cluster_barrier(Cluster& cluster);
/// A block of the calling one's cluster. It must not have ended.
Block& block_of_rank(unsigned rank, const Where& where);

}  // namespace simt
