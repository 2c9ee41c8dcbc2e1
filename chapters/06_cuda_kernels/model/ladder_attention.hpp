#pragma once
/// @file
/// Absorbed attention by the ladder's best rung: latents of 512 + 64 numbers, in bf16, in pages of 64 tokens. Other sizes
/// go through AbsorbedAttentionLayer, which keeps f32. Prompts are expanded, as there.
#include "chapters/06_cuda_kernels/ladder/ladder.hpp"
#include "chapters/06_cuda_kernels/model/attention_layers.hpp"

namespace kv::cuda {

/// The last rung that this device can run, among those that a GPU has run.
const Rung& best_rung();

/// Is there a rung for these sizes?
bool ladder_serves(const LatentSizes& sizes);

/// Where the rows of a step find their pages, and who reads which. Each row is a sequence of its own to the ladder.
class StepPages : public StepWork {
 public:
  StepPages(index_t heads, const Limits& limits, const Rung& rung);
  /// Takes scratch memory until the step's end.
  void queue(const Step& step) override;
  /// Without what is a layer's own: its pages, queries and results.
  const MlaDecode& problem() const { return problem_; }
  const Rung& rung() const { return rung_; }
  const Schedule* schedule() const { return rung_.share_count ? &schedule_ : nullptr; }

 private:
  Rung rung_;
  MlaDecode problem_{};
  Schedule schedule_{};
};

class LadderAttentionLayer : public AttentionLayer {
 public:
  /// @param step of all layers  @throws std::invalid_argument for sizes that the ladder does not serve
  LadderAttentionLayer(AbsorbedAttentionLayer::Weights weights, std::shared_ptr<const StepPages> step);
  void queue(const float* x, float* y, const Step& step) override;
  std::size_t cache_bytes() const override { return pages_.size() * sizeof(bf16); }

  /// (pages,64,576): each sequence has as many, and they lie in order
  Buffer<bf16>& pages() { return pages_; }

 private:
  void climb(const LatentDown::Rows& rows, const PagedRows& pages, float* mixed, const Step& step);

  AbsorbedAttentionLayer::Weights weights_;
  std::shared_ptr<const StepPages> step_;
  Buffer<bf16> pages_;
};

}  // namespace kv::cuda
