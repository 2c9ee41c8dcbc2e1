/// @file
/// mbarrier, and TMA, which reports to it. A phase ends when all arrivals and all announced bytes are there.
/// A TMA copy is performed only when somebody waits for its barrier and would otherwise go to sleep; until then the
/// destination holds poison, so that a reader who did not wait computes NaN.
/// @see PTX ISA, "Parallel Synchronization and Communication Instructions: mbarrier", "cp.async.bulk.tensor"
#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstring>

#include "common/cuda/simt/block.hpp"
#include "common/cuda/simt/sanitizer.hpp"
#include "common/cuda/simt/traffic.hpp"

namespace simt {
namespace {

/// The 64 bits of an mbarrier (opaque on the GPU).
struct Phase {
  std::uint16_t expected, missing;  ///< arrivals
  std::int32_t missing_bytes : 31;  ///< negative where bytes have come before they were announced
  std::uint32_t parity : 1;         ///< of the phase that is under way
};

Phase load(const std::uint64_t* barrier) { return std::bit_cast<Phase>(*barrier); }

void store(std::uint64_t* barrier, Phase phase) {
  if (phase.missing == 0 && phase.missing_bytes == 0) {
    phase.missing = phase.expected;
    phase.parity ^= 1;
  }
  *barrier = std::bit_cast<std::uint64_t>(phase);
}

/// What stands for the end of a phase, to the race detector.
const char* end_of_phase(const std::uint64_t* barrier, unsigned parity) {
  return reinterpret_cast<const char*>(barrier) + 4 * parity;
}

const Initialised& require_initialised(const Block& block, const std::uint64_t* barrier, const Where& where) {
  Block::current()->self().where = where;
  note_read(barrier, sizeof *barrier);  // a race with mbarrier_init: a barrier of the block is missing
  const auto found = std::find_if(block.mbarriers.rbegin(), block.mbarriers.rend(),
                                  [&](const Initialised& known) { return known.barrier == barrier; });
  if (&block != Block::current() &&
      (found == block.mbarriers.rend() || found->meeting == block.cluster->whole.meeting))
    die("mbarrier: of another block, and no cluster_sync since its mbarrier_init", where);
  if (found == block.mbarriers.rend()) die("mbarrier: used before mbarrier_init", where);
  return *found;
}

void arrive(const Block& block, std::uint64_t* barrier, int bytes, const Where& where) {
  require_initialised(block, barrier, where);
  Phase phase = load(barrier);
  if (phase.missing == 0) die("mbarrier: more arrivals than it was initialised for", where);
  release(end_of_phase(barrier, phase.parity));
  --phase.missing;
  phase.missing_bytes += bytes;
  store(barrier, phase);
}

// ---- TMA ---------------------------------------------------------------------------------------------------------

constexpr int row_bytes = box_columns * 2, chunk_bytes = 16, chunk_elements = chunk_bytes / 2;

/// 16 bytes of the matrix; zeros outside it.
void load_chunk(const TensorMap& map, std::int64_t row, std::int64_t column, std::uint16_t* chunk) {
  for (int i = 0; i < chunk_elements; ++i) {
    const bool inside = row >= 0 && row < map.rows && column + i >= 0 && column + i < map.columns;
    chunk[i] = inside ? map.data[row * map.row_stride + column + i] : std::uint16_t{0};
  }
}

/// Writes the box with the 128-byte swizzle: chunk c of row r lies where chunk c xor r%8 would.
void perform(const BoxCopy& copy) {
  for (int row = 0; row < copy.map.box_rows; ++row)
    for (int chunk = 0; chunk < row_bytes / chunk_bytes; ++chunk) {
      std::uint16_t elements[chunk_elements];
      load_chunk(copy.map, std::int64_t{copy.row} + row, std::int64_t{copy.column} + chunk * chunk_elements, elements);
      std::memcpy(copy.shared + row * row_bytes + (chunk ^ row % 8) * chunk_bytes, elements, chunk_bytes);
    }
  Phase phase = load(copy.barrier);
  phase.missing_bytes -= copy.map.box_rows * row_bytes;
  store(copy.barrier, phase);
}

bool passed(const std::uint64_t* barrier, unsigned parity) { return load(barrier).parity != parity; }

void note_box_reads(const TensorMap& map, int column, int first_row, const Where& where) {
  const std::int64_t first = std::max(column, 0), last = std::min<std::int64_t>(column + box_columns, map.columns);
  for (int r = 0; r < map.box_rows; ++r) {
    const std::int64_t row = std::int64_t{first_row} + r;
    if (row < 0 || row >= map.rows || first >= last) continue;
    const std::uint16_t* data = map.data + row * map.row_stride + first;
    note_read(data, std::size_t(last - first) * 2);
    count_bulk_read(data, std::size_t(last - first) * 2, where);
  }
}

/// Into the shared memory of `block`, whose barrier counts the bytes.
void load_box(Block& block, const BoxCopy& copy, const Where& where) {
  if (!require_initialised(block, copy.barrier, where).seen)
    die("tma_load: nobody has let TMA see the mbarrier, by mbarrier_init_done of the thread that initialised it", where);
  if (reinterpret_cast<std::uintptr_t>(copy.shared) % 1024 != 0)
    die("tma_load: the box starts at a multiple of 1024", where);
  const std::size_t bytes = std::size_t(copy.map.box_rows) * row_bytes;
  note_write(copy.shared, bytes);
  count_bulk_write(copy.shared, bytes, where);
  require_fenced(copy.shared, bytes, "tma_load: overwrites what a thread has stored without fence_proxy_async", where);
  forget_stores(copy.shared, bytes);
  std::memset(copy.shared, 0xff, bytes);
  block.box_copies.push_back(copy);
  release(end_of_phase(copy.barrier, load(copy.barrier).parity));  // the bytes arrive on this thread's behalf
}

}  // namespace

bool phase_passed(Block& block, std::uint64_t* barrier, unsigned parity) {
  if (passed(barrier, parity)) return true;
  std::size_t kept = 0;
  for (const BoxCopy& copy : block.box_copies)
    if (copy.barrier == barrier)
      perform(copy);
    else
      block.box_copies[kept++] = copy;  // no algorithm that calls memmove: a race detector would take it for the kernel's
  block.box_copies.resize(kept);
  return passed(barrier, parity);
}

std::array<char, 96> missing_from(const std::uint64_t* barrier) {
  std::array<char, 96> text;
  const Phase phase = load(barrier);
  std::snprintf(text.data(), text.size(), "%d arrivals and %d bytes", int{phase.missing}, int{phase.missing_bytes});
  return text;
}

void mbarrier_init(std::uint64_t* barrier, int count, const Where& where) {
  Block& block = *Block::current();
  block.self().where = where;
  if (count < 1 || count > 0xffff) die("mbarrier_init: the count is at least 1", where);
  note_write(barrier, sizeof *barrier);
  const auto arrivals = static_cast<std::uint16_t>(count);
  *barrier = std::bit_cast<std::uint64_t>(Phase{arrivals, arrivals, 0, 0});
  block.mbarriers.push_back({barrier, block.self().number, block.cluster->whole.meeting});
}

void mbarrier_init_done() {
  Block& block = *Block::current();
  for (Initialised& known : block.mbarriers)
    if (known.thread == block.self().number) known.seen = true;
}

void mbarrier_arrive(std::uint64_t* barrier, const Where& where) { arrive(*Block::current(), barrier, 0, where); }
void mbarrier_arrive_expect(std::uint64_t* barrier, int bytes, const Where& where) {
  arrive(*Block::current(), barrier, bytes, where);
}
void mbarrier_arrive_in_block(std::uint64_t* barrier, unsigned rank, const Where& where) {
  auto* theirs = static_cast<std::uint64_t*>(in_block(barrier, rank, where));
  arrive(block_of_rank(rank, where), theirs, 0, where);
}

void mbarrier_wait(std::uint64_t* barrier, unsigned parity, const Where& where) {
  Block& block = *Block::current();
  require_initialised(block, barrier, where);
  if (!phase_passed(block, barrier, parity)) {
    block.self().mbarrier = barrier;
    block.self().parity = parity;
    block.park(State::at_mbarrier);
  }
  acquire(end_of_phase(barrier, parity));
}

void tma_load(void* shared, const TensorMap& map, std::uint64_t* barrier, int column, int row, const Where& where) {
  note_box_reads(map, column, row, where);
  load_box(*Block::current(), {static_cast<char*>(shared), map, barrier, column, row}, where);
}

void tma_load_multicast(void* shared, const TensorMap& map, std::uint64_t* barrier, int column, int row, unsigned ranks,
                        const Where& where) {
  note_box_reads(map, column, row, where);
  for (unsigned rank = 0; ranks >> rank != 0; ++rank)
    if (ranks >> rank & 1)
      load_box(block_of_rank(rank, where), {static_cast<char*>(in_block(shared, rank, where)), map,
               static_cast<std::uint64_t*>(in_block(barrier, rank, where)), column, row}, where);
}

}  // namespace simt
