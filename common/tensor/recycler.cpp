#include "common/tensor/recycler.hpp"

#include <atomic>
#include <mutex>
#include <utility>

#include "common/tensor/block_observer.hpp"

namespace kv {
namespace {

constexpr std::size_t alignment = 64, largest_small = 4096, slab_bytes = 1 << 20;
constexpr std::size_t most_waiting = 1 << 20;

std::size_t rounded(std::size_t bytes) {
  return std::max<std::size_t>(1, (bytes + alignment - 1) / alignment) * alignment;
}
void* from_system(std::size_t bytes) { return ::operator new(bytes, std::align_val_t(alignment)); }
void to_system(void* block) noexcept { ::operator delete(block, std::align_val_t(alignment)); }

/// One for all threads: with lists of its own, a thread that first takes part in the hundredth step would ask the
/// system then. Slabs have room for blocks that threads hold at the same time only now and then.
class Recycler {
 public:
  void* take_small(std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    Free*& first = small_[bytes / alignment];
    if (first) return std::exchange(first, first->next);
    if (bytes > slab_left_) slab_ = static_cast<std::byte*>(from_system(slab_bytes)), slab_left_ = slab_bytes;
    slab_left_ -= bytes;
    return std::exchange(slab_, slab_ + bytes);
  }
  void give_small(void* block, std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    Free*& first = small_[bytes / alignment];
    first = new (block) Free{first};
  }

  void* take_large(std::size_t bytes) {
    {
      const std::lock_guard lock(mutex_);
      for (std::size_t i = count_; i-- > 0;)  // the latest is likely to be in a cache
        if (waiting_[i].bytes == bytes) return remove(i);
    }
    return from_system(bytes);
  }
  void give_large(void* block, std::size_t bytes) {
    if (bytes > most_waiting) return to_system(block);
    const std::lock_guard lock(mutex_);
    while (count_ == std::size(waiting_) || waiting_bytes_ + bytes > most_waiting) to_system(remove(0));
    waiting_[count_++] = {block, bytes};
    waiting_bytes_ += bytes;
  }

 private:
  struct Free {
    Free* next;
  };
  struct Waiting {
    void* block;
    std::size_t bytes;
  };
  void* remove(std::size_t i) {
    const auto [block, bytes] = waiting_[i];
    std::copy(waiting_ + i + 1, waiting_ + count_--, waiting_ + i);
    waiting_bytes_ -= bytes;
    return block;
  }

  std::mutex mutex_;
  Free* small_[largest_small / alignment + 1]{};  // by size
  std::byte* slab_ = nullptr;                     // the rest of the latest
  std::size_t slab_left_ = 0;
  Waiting waiting_[256];  // the oldest first
  std::size_t count_ = 0, waiting_bytes_ = 0;
};

Recycler& recycler() {
  static Recycler& all = *new Recycler;  // never destroyed: static tensors and threads that end later give back to it
  return all;
}

std::atomic<BlockObserver*> block_observer;

#if defined(__SANITIZE_ADDRESS__) || defined(KV_SANITIZED)  // a sanitizer sees the end of a block that is its own
void* take(std::size_t bytes) { return from_system(bytes); }
void give(void* block, std::size_t) noexcept { to_system(block); }
#else
void* take(std::size_t bytes) {
  bytes = rounded(bytes);
  return bytes <= largest_small ? recycler().take_small(bytes) : recycler().take_large(bytes);
}

void give(void* block, std::size_t bytes) noexcept {
  bytes = rounded(bytes);
  bytes <= largest_small ? recycler().give_small(block, bytes) : recycler().give_large(block, bytes);
}
#endif

}  // namespace

void* take_block(std::size_t bytes) {
  void* const block = take(bytes);
  if (BlockObserver* const observer = block_observer.load(std::memory_order_relaxed)) observer->taken(block, bytes);
  return block;
}

void give_block(void* block, std::size_t bytes) noexcept {
  if (BlockObserver* const observer = block_observer.load(std::memory_order_relaxed)) observer->given(block);
  give(block, bytes);
}

void observe_blocks(BlockObserver* observer) { block_observer = observer; }

}  // namespace kv
