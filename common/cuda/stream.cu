#include "common/cuda/stream.hpp"

namespace kv::cuda {
namespace {

/// Ends the capture, also when it fails halfway.
class Capture {
 public:
  explicit Capture(cudaStream_t stream) : stream_(stream) {
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "Graph");
  }
  ~Capture() {
    if (stream_) cudaStreamEndCapture(stream_, &graph_);
    if (graph_) cudaGraphDestroy(graph_);
    cudaGetLastError();
  }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  cudaGraph_t end() {
    check(cudaStreamEndCapture(std::exchange(stream_, nullptr), &graph_), "Graph");
    return graph_;
  }

 private:
  cudaStream_t stream_;
  cudaGraph_t graph_ = nullptr;
};

}  // namespace

Graph::Graph(Stream& stream, const std::function<void()>& record) {
  Capture capture(stream.get());
  record();
  check(cudaGraphInstantiate(&executable_, capture.end(), 0), "Graph");
}

}  // namespace kv::cuda
