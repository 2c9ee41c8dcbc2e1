#pragma once
/// @file
/// Storage for numbers: large blocks of packed weights, and scratch that threads keep.
#include <algorithm>
#include <cstdlib>
#include <new>
#include <utility>

#ifdef __linux__
#include <sys/mman.h>
#endif
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "common/tensor/tensor.hpp"

namespace kv {

/// From now on, what is freed stays with the program (on glibc): the next step or prompt asks for as much again, and need
/// not wait for fresh pages. For `main`, before there are threads.
inline void keep_freed_memory() {
#ifdef __GLIBC__
  mallopt(M_MMAP_THRESHOLD, 32 << 20);  // the most that glibc allows
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
#endif
}

/// Uninitialised memory: the threads that write it first decide where it lies. Large ones ask for huge pages.
class Memory {
 public:
  Memory() = default;
  explicit Memory(std::size_t bytes) : bytes_(bytes) {
    if (bytes < huge_page)
      data_ = take_block(bytes);
    else if (posix_memalign(&data_, huge_page, bytes) != 0)
      throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
    if (bytes >= huge_page) madvise(data_, bytes / huge_page * huge_page, MADV_HUGEPAGE);  // a wish: failure is no error
#endif
  }
  ~Memory() {
    if (bytes_ >= huge_page) std::free(data_);
    else if (data_) give_block(data_, bytes_);
  }
  Memory(Memory&& other) noexcept : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Memory& operator=(Memory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }

  std::byte* data() const { return static_cast<std::byte*>(data_); }
  std::size_t bytes() const { return bytes_; }

 private:
  static constexpr std::size_t huge_page = 2 << 20;
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

/// Floats that a thread keeps from call to call.
class Scratch {
 public:
  float* floats(index_t count) {
    if (memory_.bytes() < count * sizeof(float)) memory_ = Memory(count * sizeof(float));
    return reinterpret_cast<float*>(memory_.data());
  }

 private:
  Memory memory_;
};

}  // namespace kv
