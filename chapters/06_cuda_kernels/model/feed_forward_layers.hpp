#pragma once
/// @file
/// The feed-forward half on the device: dense, and a mixture of experts.
#include "chapters/06_cuda_kernels/model/layer.hpp"
#include "chapters/06_cuda_kernels/model/route.hpp"
#include "chapters/models/model_tensors.hpp"

namespace kv::cuda {

/// Weights of a SwiGLU, or of E of equal width, one below the other.
struct SwiGlu {
  Matrix gate_up;  ///< (E*2F,M), of each expert row 2f is a gate and 2f + 1 its partner
  Matrix down;     ///< (E*M,F)
  int width() const { return down.columns(); }  // F
};
SwiGlu upload(const SwiGluTensors& tensors);
SwiGlu upload(const std::vector<SwiGluTensors>& experts);

class DenseLayer : public FeedForwardLayer {
 public:
  explicit DenseLayer(SwiGlu weights) : weights_(std::move(weights)) {}
  Change queue(const float* x, float* y, const Step& step) override;

 private:
  SwiGlu weights_;
};

/// Grouped: each expert multiplies its own rows, and experts that nobody has chosen are not read. A shared expert is some
/// more of their width, behind the others, that everybody visits.
class MixtureLayer : public FeedForwardLayer {
 public:
  struct Weights {
    Matrix gate;  ///< (E,M), and a row more where a gate says how much the shared expert counts
    RoutingRule rule;
    SwiGlu experts;
    int shared = 0;  ///< how many of them are pieces of the shared one
  };
  explicit MixtureLayer(Weights weights);
  Change queue(const float* x, float* y, const Step& step) override;

 private:
  Weights weights_;
  Buffer<float> bias_;
  Router router_;
  Buffer<unsigned> arrived_;
};
MixtureLayer::Weights upload(const MixtureTensors& tensors);

}  // namespace kv::cuda
