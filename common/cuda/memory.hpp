#pragma once
/// @file
/// Device memory that frees itself.
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "common/cuda/launch.hpp"

namespace kv::cuda {

/// Device memory for size() elements. Uninitialised: on the CPU all bits are set (NaN in every float format).
template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::size_t size) : size_(size) {
    if (size == 0) return;
    const bool countable = size <= std::numeric_limits<std::size_t>::max() / sizeof(T);
    const cudaError_t error = countable ? cudaMalloc(&data_, size * sizeof(T)) : cudaErrorMemoryAllocation;
    if (error == cudaErrorMemoryAllocation)
      throw CudaError("the device has no memory for " + std::to_string(size) + " numbers of " + std::to_string(sizeof(T)) +
                      " bytes: a smaller model, capacity or batch is needed");
    check(error, "Buffer");
  }
  explicit Buffer(std::span<const T> host) : Buffer(host.size()) { upload(host); }
  ~Buffer() {
    if (data_) cudaFree(data_);
  }
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }

  T* data() { return data_; }
  const T* data() const { return data_; }
  std::size_t size() const { return size_; }

  /// Copies to the first host.size() elements, and waits. @throws CudaError where they are more than size()
  void upload(std::span<const T> host) {
    require_room(host.size());
    check(cudaMemcpy(data_, host.data(), host.size_bytes(), cudaMemcpyHostToDevice), "upload");
    check(cudaStreamSynchronize(nullptr), "upload");  // a copy from ordinary memory may return when it has been read
  }
  /// Copies all elements, and waits for them and for the kernels before.
  std::vector<T> download() const {
    std::vector<T> host(size_);
    check(cudaMemcpy(host.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost), "download");
    return host;
  }

  /// The same in a stream's order, without waiting: `host` must stay until the stream is synchronised, in a captured
  /// graph as long as that is replayed.
  void upload(std::span<const T> host, cudaStream_t stream) {
    require_room(host.size());
    check(cudaMemcpyAsync(data_, host.data(), host.size_bytes(), cudaMemcpyHostToDevice, stream), "upload");
  }
  void download(std::span<T> host, cudaStream_t stream) const {
    require_room(host.size());
    check(cudaMemcpyAsync(host.data(), data_, host.size_bytes(), cudaMemcpyDeviceToHost, stream), "download");
  }

 private:
  void require_room(std::size_t count) const {
    if (count > size_)
      throw CudaError("Buffer has " + std::to_string(size_) + " elements, asked for " + std::to_string(count));
  }

  T* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace kv::cuda
