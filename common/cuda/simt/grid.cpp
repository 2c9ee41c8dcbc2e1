/// @file
/// All blocks of a grid, those of a cluster by one thread of the operating system.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "common/cuda/simt/block.hpp"
#include "common/cuda/simt/cuda_runtime.hpp"
#include "common/cuda/simt/sanitizer.hpp"
#include "common/cuda/simt/traffic.hpp"
#if !defined(SIMT_TSAN) && !defined(SIMT_ASAN) && !defined(SIMT_TRAFFIC)
#include "common/tensor/parallel.hpp"
#endif

namespace simt {
namespace {

unsigned& order() {
  static unsigned number = [] {
    const char* text = std::getenv("SIMT_ORDER");
    return text ? static_cast<unsigned>(std::strtoul(text, nullptr, 10)) : 0u;
  }();
  return number;
}

/// Dynamic shared memory for the blocks of a cluster, of exactly this size, so that an address sanitizer sees its end.
struct SharedMemory {
  explicit SharedMemory(const Grid& grid) : of_rank(grid.cluster) {
    for (char*& data : of_rank) {
      void* memory = nullptr;
      if (grid.shared_bytes > 0 && posix_memalign(&memory, 1024, grid.shared_bytes) != 0) throw std::bad_alloc();
      data = static_cast<char*>(memory);
    }
  }
  ~SharedMemory() {
    for (char* data : of_rank) std::free(data);
  }
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;
  std::vector<char*> of_rank;
};

/// What runs the blocks of one cluster.
struct Blocks {
  const std::vector<Block*>& take(unsigned count) {
    while (all.size() < count) all.push_back(std::make_unique<Block>());
    taken.resize(count);
    for (unsigned rank = 0; rank < count; ++rank) taken[rank] = all[rank].get();
    return taken;
  }
  std::vector<std::unique_ptr<Block>> all;
  std::vector<Block*> taken;
};

#if defined(SIMT_TSAN)

// Blocks are not ordered with each other, and the race detector must see that. So each has memory of its own for
// dynamic and static shared variables (a fresh thread of the operating system), and neighbours have different fibers.
// So have grids that follow one another: the next may be early. A grid's memory stays until the host knows that it has ended.
struct Running {
  std::function<void()> thread;  ///< with the kernel's arguments
  std::vector<std::unique_ptr<SharedMemory>> shared;
};
std::deque<Running> running;

void run_clusters(const Grid& grid, std::size_t count) {
  static Blocks blocks[2][2];
  running.push_back({*grid.thread, std::vector<std::unique_ptr<SharedMemory>>(count)});
  Running& now = running.back();
  for (std::size_t i = 0; i < count; ++i)
    std::thread([&] {
      Grid mine = grid;
      mine.thread = &now.thread;
      char begins = 0;
      now.shared[i] = std::make_unique<SharedMemory>(grid);
      mine.begins = &begins;
      run_cluster(mine, blocks[grids_run() % 2][i % 2].take(grid.cluster), i * grid.cluster, now.shared[i]->of_rank);
    }).join();
}

#elif defined(SIMT_ASAN) || defined(SIMT_TRAFFIC)

void run_clusters(const Grid& grid, std::size_t count) {
  static Blocks blocks;
  for (std::size_t i = 0; i < count; ++i) {
    const SharedMemory shared(grid);
    run_cluster(grid, blocks.take(grid.cluster), i * grid.cluster, shared.of_rank);
#if defined(SIMT_TRAFFIC)
    end_block_traffic();
#endif
  }
}

#else

void run_clusters(const Grid& grid, std::size_t count) {
  kv::parallel_for(count, 1, [&](std::size_t first, std::size_t last) {
    static thread_local Blocks blocks;
    const SharedMemory shared(grid);
    for (std::size_t i = first; i < last; ++i) {
      const std::size_t turn = grid.order == 1 ? count - 1 - i : i;
      run_cluster(grid, blocks.take(grid.cluster), turn * grid.cluster, shared.of_rank);
    }
  });
}

#endif

std::size_t grids = 0;
char ends[2];  // of this grid and of the last one
std::atomic<bool> waited;  // has any thread?

}  // namespace

void set_order(unsigned number) { order() = number; }

void run_grid(const Shape& shape, const std::function<void()>& thread) {
  static std::mutex one_at_a_time;
  const std::lock_guard lock(one_at_a_time);
  ++grids;
  if (!shape.early) finish_grids();
  waited = !shape.early;
  const std::size_t blocks = std::size_t{shape.grid.x} * shape.grid.y * shape.grid.z;
  run_clusters({shape, &thread, order(), nullptr, &ends[grids % 2], &ends[(grids + 1) % 2]},
               blocks / shape.cluster);
  if (waited) return;
  std::fprintf(stderr, "simt: a grid was launched early, and none of its threads has waited for the last one\n");
  std::abort();
}

void wait_for_last_grid() {
  waited = true;
  acquire(Block::current()->grid().last_ends);
}

void finish_grids() {
  acquire(&ends[0]);
  acquire(&ends[1]);
#if defined(SIMT_TSAN)
  running.clear();
#endif
}

std::size_t grids_run() { return grids; }

}  // namespace simt
