/// @file
/// All blocks of a grid, each by one thread of the operating system.
#include <cstdlib>
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

/// Dynamic shared memory of exactly this size, so that an address sanitizer sees its end.
struct SharedMemory {
  explicit SharedMemory(std::size_t bytes) {
    void* memory = nullptr;
    if (bytes > 0 && posix_memalign(&memory, 1024, bytes) != 0) throw std::bad_alloc();
    data = static_cast<char*>(memory);
  }
  ~SharedMemory() { std::free(data); }
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;
  char* data;
};

uint3 index_of(std::size_t block, dim3 grid) {
  return {unsigned(block % grid.x), unsigned(block / grid.x % grid.y), unsigned(block / grid.x / grid.y)};
}

#if defined(SIMT_TSAN)

// Blocks are not ordered with each other, and the race detector must see that. So each has memory of its own for
// dynamic and static shared variables (a fresh thread of the operating system), and neighbours have different fibers.
void run_blocks(const Grid& grid, std::size_t count) {
  static std::unique_ptr<Block> blocks[] = {std::make_unique<Block>(), std::make_unique<Block>()};
  std::vector<std::unique_ptr<SharedMemory>> shared(count);
  for (std::size_t i = 0; i < count; ++i)
    std::thread([&] {
      Grid mine = grid;
      char begins = 0;
      shared[i] = std::make_unique<SharedMemory>(grid.shared_bytes);
      mine.begins = &begins;
      blocks[i % 2]->run(mine, index_of(i, grid.grid), shared[i]->data);
    }).join();
  acquire(grid.ends);
}

#elif defined(SIMT_ASAN) || defined(SIMT_TRAFFIC)

void run_blocks(const Grid& grid, std::size_t count) {
  static Block block;
  for (std::size_t i = 0; i < count; ++i) {
    const SharedMemory shared(grid.shared_bytes);
    block.run(grid, index_of(i, grid.grid), shared.data);
#if defined(SIMT_TRAFFIC)
    end_block_traffic();
#endif
  }
}

#else

void run_blocks(const Grid& grid, std::size_t count) {
  kv::parallel_for(count, 1, [&](std::size_t first, std::size_t last) {
    static thread_local Block block;
    const SharedMemory shared(grid.shared_bytes);
    for (std::size_t i = first; i < last; ++i) {
      const std::size_t turn = grid.order == 1 ? count - 1 - i : i;
      block.run(grid, index_of(turn, grid.grid), shared.data);
    }
  });
}

#endif

}  // namespace

void set_order(unsigned number) { order() = number; }

void run_grid(dim3 grid, dim3 block, std::size_t shared_bytes, const std::function<void()>& thread) {
  static std::mutex one_at_a_time;
  const std::lock_guard lock(one_at_a_time);
  char ends = 0;
  run_blocks({grid, block, shared_bytes, &thread, order(), nullptr, &ends},
             std::size_t{grid.x} * grid.y * grid.z);
}

}  // namespace simt
