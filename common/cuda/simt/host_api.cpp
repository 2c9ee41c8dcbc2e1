#include "common/cuda/simt/host_api.hpp"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

namespace simt {

using Work = std::vector<std::function<void()>>;

struct Stream {
  bool capturing = false;
  Work captured;
};
struct Event {
  std::chrono::steady_clock::time_point time;
};
struct Graph {
  Work work;
};

namespace {

thread_local cudaError_t last_error = cudaSuccess;
thread_local int captures = 0;  ///< streams that this thread is capturing

cudaError_t remember(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

/// Runs now, or later with the graph that is being captured.
cudaError_t submit(Stream* stream, std::function<void()> work) {
  if (stream && stream->capturing)
    stream->captured.push_back(std::move(work));
  else if (captures > 0)
    return remember(cudaErrorStreamCaptureUnsupported);  // the null stream would wait for the captured one
  else
    work();
  return cudaSuccess;
}

/// The same for what is no grid: grids have ended then.
cudaError_t submit_after_grids(Stream* stream, std::function<void()> work) {
  return submit(stream, [work = std::move(work)] {
    finish_grids();
    work();
  });
}

class Allocations {
 public:
  void add(char* data, std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    bytes_[data] = bytes;
  }
  bool remove(const char* data) {
    const std::lock_guard lock(mutex_);
    return bytes_.erase(data) > 0;
  }
  Allocation find(const char* address) {
    const std::lock_guard lock(mutex_);
    auto next = bytes_.upper_bound(address);
    if (next == bytes_.begin()) return {nullptr, 0};
    --next;
    return address < next->first + next->second ? Allocation{next->first, next->second} : Allocation{nullptr, 0};
  }

 private:
  std::mutex mutex_;
  std::map<const char*, std::size_t> bytes_;
};

Allocations& allocations() {
  static Allocations all;
  return all;
}

bool inside_one_allocation(const void* memory, std::size_t bytes) {
  const Allocation allocation = allocation_of(memory);
  return allocation.data && static_cast<const char*>(memory) + bytes <= allocation.data + allocation.bytes;
}

bool copy_is_legal(const void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  return bytes == 0 ||
         ((!to_device || inside_one_allocation(to, bytes)) && (!from_device || inside_one_allocation(from, bytes)));
}

bool launch_is_legal(const Shape& shape) {
  const auto& [grid, block, shared_bytes, cluster, early] = shape;
  const std::size_t threads = std::size_t{block.x} * block.y * block.z;
  return grid.x > 0 && grid.y > 0 && grid.z > 0 && grid.x <= 0x7fffffff && grid.y <= 65535 && grid.z <= 65535 &&
         threads > 0 && threads <= max_threads && block.z <= 64 && shared_bytes <= max_shared_bytes && cluster > 0 &&
         cluster <= max_cluster && grid.x % cluster == 0;
}

}  // namespace

Allocation allocation_of(const void* address) { return allocations().find(static_cast<const char*>(address)); }

cudaError_t launch(const Shape& shape, cudaStream_t stream, std::function<void()> thread) {
  if (!launch_is_legal(shape)) return remember(cudaErrorInvalidValue);  // as cudaLaunchKernelEx on a GPU
  return submit(stream, [=, thread = std::move(thread)] { run_grid(shape, thread); });
}

}  // namespace simt

using namespace simt;

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorInvalidValue: return "invalid argument";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorIllegalState: return "the operation cannot be performed in the present state";
    case cudaErrorStreamCaptureUnsupported: return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated: return "operation failed due to a previous error during capture";
  }
  return "unknown error";
}

cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }

// ---- memory ------------------------------------------------------------------------------------------------------

cudaError_t cudaMalloc(void** memory, std::size_t bytes) {
  if (captures > 0) return remember(cudaErrorStreamCaptureUnsupported);
  *memory = nullptr;
  if (bytes == 0) return cudaSuccess;
  // Exactly this size, so that an address sanitizer sees its end.
  if (posix_memalign(memory, 256, bytes) != 0) return remember(cudaErrorMemoryAllocation);
  std::memset(*memory, 0xff, bytes);
  allocations().add(static_cast<char*>(*memory), bytes);
  return cudaSuccess;
}

cudaError_t cudaFree(void* memory) {
  if (captures > 0) return remember(cudaErrorStreamCaptureUnsupported);
  if (!memory) return cudaSuccess;
  finish_grids();
  if (!allocations().remove(static_cast<char*>(memory))) return remember(cudaErrorInvalidValue);
  std::free(memory);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  if (!copy_is_legal(to, from, bytes, kind)) return remember(cudaErrorInvalidValue);
  return submit_after_grids(stream, [=] {
    if (bytes > 0) std::memcpy(to, from, bytes);
  });
}

cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  return cudaMemcpyAsync(to, from, bytes, kind, nullptr);
}

cudaError_t cudaMemsetAsync(void* memory, int byte, std::size_t bytes, cudaStream_t stream) {
  if (bytes > 0 && !inside_one_allocation(memory, bytes)) return remember(cudaErrorInvalidValue);
  return submit_after_grids(stream, [=] {
    if (bytes > 0) std::memset(memory, byte, bytes);
  });
}

cudaError_t cudaMemset(void* memory, int byte, std::size_t bytes) {
  return cudaMemsetAsync(memory, byte, bytes, nullptr);
}

// ---- streams and events ------------------------------------------------------------------------------------------

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new Stream;
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  if (stream && stream->capturing) --captures;
  delete stream;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  finish_grids();
  return (stream && stream->capturing) || captures > 0 ? remember(cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() { return cudaStreamSynchronize(nullptr); }

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  *event = new Event;
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return submit(stream, [=] { event->time = std::chrono::steady_clock::now(); });
}

cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaStreamSynchronize(nullptr); }

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t stop) {
  *milliseconds = std::chrono::duration<float, std::milli>(stop->time - start->time).count();
  return cudaSuccess;
}

// ---- graphs ------------------------------------------------------------------------------------------------------

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (!stream) return remember(cudaErrorStreamCaptureUnsupported);
  if (stream->capturing) return remember(cudaErrorIllegalState);
  stream->capturing = true;
  ++captures;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = nullptr;
  if (!stream || !stream->capturing) return remember(cudaErrorIllegalState);
  stream->capturing = false;
  --captures;
  *graph = new Graph{std::move(stream->captured)};
  stream->captured.clear();
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  *executable = new Graph(*graph);
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  return submit(stream, [work = executable->work] {
    for (const auto& step : work) step();
  });
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}

// ---- the device --------------------------------------------------------------------------------------------------

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  std::snprintf(properties->name, sizeof properties->name, "CPU runtime");
  properties->major = 9;  // it has the instructions of sm_90a
  properties->multiProcessorCount = 4;  // the same everywhere, so that work is split alike everywhere
  properties->sharedMemPerBlockOptin = max_shared_bytes;
  properties->totalGlobalMem = std::size_t{8} << 30;
  properties->l2CacheSize = 1 << 20;
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = 0;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 0;
  return cudaSuccess;
}
