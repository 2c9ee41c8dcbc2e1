#pragma once
/// @file
/// What a .cu file's keywords and intrinsics call when it is built for the CPU. Every CUDA thread of a block is a fiber;
/// a block runs on one thread of the operating system, blocks run in parallel. A kernel's mistake ends the program with
/// one line on stderr that says what, which block and thread, and where.
///
/// Not modelled:
/// - cooperative grids, and spinning on memory that another block writes;
/// - the order in which plain stores reach other threads (the race detector reports such code instead);
/// - fence_proxy_async by a third thread, neither the one that stores nor the one that calls TMA or wgmma; and whether the
///   fence or a barrier comes first;
/// - of wgmma: what a thread writes to D or A between wgmma_fence and the product, writes that change no bit, reads of D
///   between its wait and an unfenced product; each warp waits for its own products on a GPU, here all four do together;
/// - of clusters: static shared variables (the blocks would have the same ones), an arrival that waits later, traffic in
///   another block's memory, and whether a wait on an mbarrier sees what another block's threads have stored;
/// - of programmatic dependent launch: what it saves; only the race detector sees what a thread touches before it waits, and not
///   what the same thread of the last grid but one has done; a barrier after another thread's wait counts as a wait;
/// - hints to caches, and fetching of tensor maps ahead;
/// - fresh values in static shared variables (only dynamic shared memory is poisoned);
/// - host memory that a kernel must not touch; the rounding inside a tensor core (here each product and sum is f32).
/// Stricter than a GPU: after a wgmma_wait a product on another accumulator than it has brought, or with A in registers,
/// needs a fence of its own.
#include <cstddef>
#include <cstdint>
#include <functional>

#include "common/cuda/simt/vector_types.hpp"

// Moves values between lanes. Like the instructions it stands for it orders no memory, so the race detector must not
// look inside.
#define SIMT_COLLECTIVE __attribute__((no_sanitize("thread")))

namespace simt {

/// A line of a kernel: std::source_location, which clang 14 lacks.
class Where {
 public:
  static constexpr Where current(const char* file = __builtin_FILE(), unsigned line = __builtin_LINE()) {
    Where here;
    here.file_ = file;
    here.line_ = line;
    return here;
  }
  constexpr const char* file_name() const { return file_; }
  constexpr unsigned line() const { return line_; }

 private:
  const char* file_ = "";
  unsigned line_ = 0;
};

inline constexpr unsigned warp_size = 32, warpgroup_size = 128, max_threads = 1024, all_lanes = 0xffffffffu;
inline constexpr unsigned max_cluster = 8;  ///< that every GPU with clusters grants
inline constexpr std::size_t max_shared_bytes = 227 * 1024;  ///< of one block on sm_90

// ---- the grid --------------------------------------------------------------------------------------------------

struct Shape {
  dim3 grid, block;
  std::size_t shared_bytes;
  unsigned cluster;  ///< blocks of one, neighbours along x
  bool early;        ///< its threads do not know that the last grid has ended until they wait for it
};
/// Runs `thread` once for each thread of the grid and returns when all are done. @pre the sizes are legal
void run_grid(const Shape& shape, const std::function<void()>& thread);
/// The calling thread sees what the last grid has done.
void wait_for_last_grid();
/// The host sees what all grids have done.
void finish_grids();
/// How many grids have been run so far.
std::size_t grids_run();
/// In which order threads and blocks get their turn: 0 forward, 1 backward, others shuffled. A kernel must not depend
/// on it. At the start: the number in the environment variable SIMT_ORDER, or 0.
void set_order(unsigned order);
/// Is the caller a kernel?
bool in_kernel();
/// The block's dynamic shared memory: aligned to 1024 bytes, all bits set when the block starts.
char* dynamic_shared();
std::size_t dynamic_shared_bytes();
/// The calling thread's place in its warp.
unsigned lane();
/// Ends the program: the calling thread has made a mistake.
[[noreturn]] void die(const char* mistake, const Where& where);

// ---- barriers --------------------------------------------------------------------------------------------------

void sync_block(const Where& where);
void sync_warp(unsigned mask, const Where& where);
/// bar.sync: barrier `id` opens when `threads` threads have come.
void sync_named(int id, int threads, const Where& where);
/// bar.arrive: counts as one of them, and goes on.
void arrive_named(int id, int threads, const Where& where);
/// Lets the others run.
void yield(const Where& where);
/// __threadfence: what this thread did before is seen by whoever sees its later atomics, and fences then.
void fence();
/// The calling thread has made an atomic access.
void note_atomic(const void* address);

// ---- clusters ----------------------------------------------------------------------------------------------------

unsigned cluster_rank();
/// Waits for all threads of the cluster. What they did before is seen after it.
void sync_cluster(const Where& where);
/// Where block `rank` of the cluster has what this one has at `address`, in dynamic shared memory.
void* in_block(const void* address, unsigned rank, const Where& where);

// ---- collectives -----------------------------------------------------------------------------------------------

/// Runs once, when all lanes of the mask are there, over what each lane handed in.
using WarpOperation = void (*)(void* const* lanes, unsigned mask);
void collective(WarpOperation operation, unsigned mask, void* operands, const Where& where);
void mma_m16n8k16(float* d, const std::uint32_t* a, const std::uint32_t* b, const Where& where);
void ldmatrix_x4(std::uint32_t* registers, const void* row, bool transposed, const Where& where);

// ---- asynchronous copies of one thread: performed as late as allowed ---------------------------------------------

/// 16 bytes. Until the copy is waited for, the destination holds poison.
void cp_async(void* shared, const void* global, const Where& where);
void cp_async_commit();
void cp_async_wait(int groups_left, const Where& where);

// ---- mbarrier and TMA --------------------------------------------------------------------------------------------

void mbarrier_init(std::uint64_t* barrier, int count, const Where& where);
/// What this thread has initialised is seen by TMA.
void mbarrier_init_done();
void mbarrier_arrive(std::uint64_t* barrier, const Where& where);
void mbarrier_arrive_expect(std::uint64_t* barrier, int bytes, const Where& where);
/// At the same barrier of block `rank` of the cluster.
void mbarrier_arrive_in_block(std::uint64_t* barrier, unsigned rank, const Where& where);
void mbarrier_wait(std::uint64_t* barrier, unsigned parity, const Where& where);

/// A matrix of 2-byte numbers in global memory, read in boxes of 64 columns.
struct TensorMap {
  const std::uint16_t* data;
  std::int64_t rows, columns, row_stride;  ///< in elements
  int box_rows;
};
inline constexpr int box_columns = 64;
/// What this thread has stored to shared memory is seen by TMA and wgmma (common/cuda/simt/proxy.hpp).
void fence_proxy_async();
/// The copy is performed when somebody waits for the barrier's phase; until then the destination holds poison.
void tma_load(void* shared, const TensorMap& map, std::uint64_t* barrier, int column, int row, const Where& where);
/// To the same place in each block of the cluster whose rank is a bit of `ranks`; each one's own barrier counts its bytes.
void tma_load_multicast(void* shared, const TensorMap& map, std::uint64_t* barrier, int column, int row, unsigned ranks,
                        const Where& where);

// ---- wgmma -------------------------------------------------------------------------------------------------------

/// One wgmma of m64nNk16: D += A B, f32 += bf16 * bf16.
struct Wgmma {
  float* d;                          ///< N/2 numbers of each thread
  int columns;                       ///< N
  const std::uint32_t* a_registers;  ///< four of each thread; null where A is in shared memory
  std::uint64_t a, b;                ///< descriptors
  bool b_transposed;
  bool a_transposed = false;         ///< in shared memory only
};
void wgmma_fence();
void wgmma(const Wgmma& operation, const Where& where);
void wgmma_commit();
void wgmma_wait(int groups_left, const Where& where);
/// An address as wgmma's descriptors hold it: the offset in dynamic shared memory.
unsigned shared_offset(const void* address, const Where& where);
/// Checks the number; there are no registers to move.
void setmaxnreg(int registers, const Where& where);

}  // namespace simt
