#pragma once
/// @file
/// Absorbed attention by the ladder's best rung: latents of 512 + 64 numbers, in bf16, in pages of 64 tokens. Other sizes
/// go through AbsorbedAttentionLayer, which keeps f32.
#include "chapters/06_cuda_kernels/ladder/ladder.hpp"
#include "chapters/06_cuda_kernels/model/attention_layers.hpp"

namespace kv::cuda {

/// The rung with the largest number that this device can run.
const Rung& best_rung();

/// Is there a rung for these sizes?
bool ladder_serves(const LatentSizes& sizes);

class LadderAttentionLayer : public AttentionLayer {
 public:
  /// @throws std::invalid_argument for sizes that the ladder does not serve
  LadderAttentionLayer(AbsorbedAttentionLayer::Weights weights, const Limits& limits, const Rung& rung);
  void queue(const float* x, float* y, const Step& step) override;
  std::size_t cache_bytes() const override { return pages_.size() * sizeof(bf16); }

  /// (pages,64,576): sequence s has pages s*pages_each ... in order
  Buffer<bf16>& pages() { return pages_; }

 private:
  MlaDecode problem(int rows) const;

  AbsorbedAttentionLayer::Weights weights_;
  int pages_each_, sequences_;
  Rung rung_;
  Buffer<bf16> pages_;
};

}  // namespace kv::cuda
