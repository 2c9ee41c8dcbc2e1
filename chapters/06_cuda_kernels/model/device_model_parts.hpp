#pragma once
/// @file
/// What a DeviceModel is made of.
#include "chapters/06_cuda_kernels/model/device_model.hpp"
#include "chapters/06_cuda_kernels/model/embed.hpp"
#include "chapters/06_cuda_kernels/model/feed_forward_layers.hpp"
#include "chapters/06_cuda_kernels/model/layer.hpp"

namespace kv::cuda {

/// Angles of every position that there is room for.
class OwnedRope {
 public:
  OwnedRope(const Rope& rope, index_t capacity);
  operator RopeRows() const { return {cos_.data(), sin_.data(), width_}; }

 private:
  Buffer<float> cos_, sin_;
  int width_;
};

struct DeviceLayer {
  OwnedNorm attention_norm;
  std::unique_ptr<AttentionLayer> attention;
  OwnedNorm feed_forward_norm;
  std::unique_ptr<FeedForwardLayer> feed_forward;
};

struct DeviceModel::Parts {
  OwnedRope rope;  ///< the layers point into it
  Matrix embedding;
  std::vector<DeviceLayer> layers;
  OwnedNorm final_norm;
  Matrix head;
  Limits limits;
  std::shared_ptr<StepWork> before = nullptr;  ///< the layers, or none
  bool remembers = true;                       ///< or layers share one cache, so that nothing outlasts a pass
};

}  // namespace kv::cuda
