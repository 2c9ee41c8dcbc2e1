#include "docs/measure/heap.hpp"

#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>

namespace {

std::atomic<std::size_t> allocations, bytes, largest, live, peak, live_at_reset;

void raise_to(std::atomic<std::size_t>& maximum, std::size_t value) {
  for (std::size_t known = maximum; known < value && !maximum.compare_exchange_weak(known, value);) {
  }
}

void* counted(void* block, std::size_t size) {
  if (block == nullptr) throw std::bad_alloc();
  ++allocations;
  bytes += size;
  raise_to(largest, size);
  raise_to(peak, live += malloc_usable_size(block));
  return block;
}

void release(void* block) {
  if (block == nullptr) return;
  live -= malloc_usable_size(block);
  std::free(block);
}

}  // namespace

void* operator new(std::size_t size) { return counted(std::malloc(std::max<std::size_t>(size, 1)), size); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  const auto step = static_cast<std::size_t>(alignment);
  return counted(std::aligned_alloc(step, (size + step - 1) / step * step), size);
}
void operator delete(void* block) noexcept { release(block); }
void operator delete(void* block, std::size_t) noexcept { release(block); }
void operator delete(void* block, std::align_val_t) noexcept { release(block); }
void operator delete(void* block, std::size_t, std::align_val_t) noexcept { release(block); }

namespace kv::book {

void reset_heap_traffic() {
  allocations = bytes = largest = 0;
  live_at_reset = live.load();
  peak = live.load();
}

HeapTraffic heap_traffic() {
  return {allocations, bytes, largest, peak - live_at_reset,
          live > live_at_reset ? live - live_at_reset : 0};
}

HeapHolding heap_holding() {
#ifdef __GLIBC__
  const struct mallinfo2 info = mallinfo2();
  return {info.arena + info.hblkhd, info.uordblks + info.hblkhd};
#else
  return {0, 0};
#endif
}

void trim_heap() {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

}  // namespace kv::book
