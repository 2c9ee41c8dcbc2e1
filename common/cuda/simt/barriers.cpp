/// @file
/// Barriers of a block, of a warp, of a chosen number of threads; and fences.
/// @see CUDA C++ Programming Guide, "Synchronization Functions", "Memory Fence Functions"; PTX ISA, "bar", "bar.warp.sync"
#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "common/cuda/simt/block.hpp"
#include "common/cuda/simt/sanitizer.hpp"

namespace simt {

char* join(Barrier& barrier) {
  char* order = &barrier.order[barrier.meeting & 1];
  release(order);
  ++barrier.arrived;
  return order;
}

void open(Barrier& barrier) {
  barrier.arrived = 0;
  ++barrier.meeting;
}

namespace {

/// A barrier that only some threads of the block reach, the others another one, is undefined in CUDA C++ though a GPU
/// lets it pass: it counts heads.
void require_one_place(Block& block) {
  const Thread* first = nullptr;
  for (unsigned number = 0; number < block.size(); ++number) {
    const Thread& thread = block.thread(number);
    if (thread.state != State::at_block) continue;
    if (first && first->where.line() != thread.where.line()) {
      std::fprintf(stderr, "simt: divergent __syncthreads: thread %u is at line %u, thread %u at line %u of %s\n",
                   first->number, first->where.line(), number, thread.where.line(),
                   thread.where.file_name());
      std::abort();
    }
    first = &thread;
  }
}

/// The calling thread arrives; the last one opens the barrier. @return what stands for the meeting, and did it open?
std::pair<const char*, bool> join_named(int id, int threads, const Where& where) {
  Block& block = *Block::current();
  if (id < 0 || id > 15) die("a named barrier's number is 0 to 15", where);
  if (threads <= 0 || threads % 32 != 0) die("a named barrier's thread count is a multiple of 32", where);
  NamedBarrier& barrier = block.named[id];
  if (barrier.arrived == 0) barrier.threads = unsigned(threads);
  if (barrier.threads != unsigned(threads)) die("named barrier: threads disagree about its thread count", where);
  if (barrier.here[block.self().number]) die("named barrier: a thread arrives again before the others have come", where);
  block.self().where = where;
  const char* order = join(barrier);
  barrier.here.set(block.self().number);
  if (barrier.arrived < barrier.threads) return {order, false};
  open(barrier);
  barrier.here.reset();
  block.wake(State::at_named, 0, block.size(), [id](const Thread& thread) { return thread.named == id; });
  return {order, true};
}

}  // namespace

void release_block_barrier(Block& block) {
  require_one_place(block);
  open(block.whole);
  block.wake(State::at_block, 0, block.size());
}

void sync_block(const Where& where) {
  Block& block = *Block::current();
  Thread& self = block.self();
  self.where = where;
  const char* order = join(block.whole);
  self.state = State::at_block;
  if (block.whole.arrived == block.live())
    release_block_barrier(block);
  else
    block.park(State::at_block);
  acquire(order);
}

void sync_warp(unsigned mask, const Where& where) {
  Block& block = *Block::current();
  Barrier& barrier = block.warp().barriers[std::countr_zero(mask | 1u << 31)];
  const char* order = &barrier.order[barrier.meeting & 1];
  release(order);
  // The last lane to come counts the meeting; nobody joins the next one before it has left this one.
  collective(
      [](void* const* lanes, unsigned lanes_in_mask) {
        ++static_cast<Barrier*>(lanes[std::countr_zero(lanes_in_mask)])->meeting;
      },
      mask, &barrier, where);
  acquire(order);
}

void sync_named(int id, int threads, const Where& where) {
  const auto [order, opened] = join_named(id, threads, where);
  if (!opened) {
    Block::current()->self().named = id;
    Block::current()->park(State::at_named);
  }
  acquire(order);
}

void arrive_named(int id, int threads, const Where& where) { join_named(id, threads, where); }

void yield(const Where& where) {
  Block& block = *Block::current();
  block.self().where = where;
  block.park(State::ready);
}

// PTX ISA, "Memory Consistency Model": a fence before an atomic access releases, one after it acquires.
void fence() {
  Thread& self = Block::current()->self();
  for (const void* address : self.atomics) acquire(address);
  self.atomics.clear();
  self.fenced = true;
}

void note_atomic([[maybe_unused]] const void* address) {
#if defined(SIMT_TSAN)
  Thread& self = Block::current()->self();
  if (self.fenced) release(address);
  self.atomics.push_back(address);
#endif
}

}  // namespace simt
