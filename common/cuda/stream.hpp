#pragma once
/// @file
/// Streams, events and graphs that clean up after themselves.
/// A graph is a recording of launches and copies that is replayed with one call: a decode step of hundreds of small
/// kernels would otherwise wait for the host. On the CPU the recording is replayed step by step.
#include <functional>
#include <utility>

#include "common/cuda/launch.hpp"

namespace kv::cuda {

/// Launches and copies in the order of the calls.
class Stream {
 public:
  Stream() { check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "Stream"); }
  ~Stream() { cudaStreamDestroy(stream_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  cudaStream_t get() const { return stream_; }
  /// Waits for all that is in the stream. @throws CudaError where a kernel has failed
  void synchronize() { check(cudaStreamSynchronize(stream_), "Stream::synchronize"); }

 private:
  cudaStream_t stream_ = nullptr;
};

/// A moment in a stream.
class Event {
 public:
  Event() { check(cudaEventCreate(&event_), "Event"); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void record(cudaStream_t stream = nullptr) { check(cudaEventRecord(event_, stream), "Event::record"); }
  void synchronize() { check(cudaEventSynchronize(event_), "Event::synchronize"); }
  /// Waits for this moment. @param earlier has been recorded before this one
  float milliseconds_since(const Event& earlier) {
    synchronize();
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, earlier.event_, event_), "Event::milliseconds_since");
    return milliseconds;
  }

 private:
  cudaEvent_t event_ = nullptr;
};

/// A recording of what `record` launches and copies in the stream. Arguments and addresses are those of the recording;
/// what lies at the addresses is read at each replay.
class Graph {
 public:
  /// @throws CudaError, and what `record` throws, where it does what a recording does not allow: memory allocated,
  /// another stream used, a stream waited for
  Graph(Stream& stream, const std::function<void()>& record);
  ~Graph() { cudaGraphExecDestroy(executable_); }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  void replay(Stream& stream) { check(cudaGraphLaunch(executable_, stream.get()), "Graph::replay"); }

 private:
  cudaGraphExec_t executable_ = nullptr;
};

}  // namespace kv::cuda
