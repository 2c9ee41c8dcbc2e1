#include <cmath>

#include "chapters/06_cuda_kernels/model/attention_layers.hpp"

namespace kv::cuda {

ExpandedWeights upload_expanded(const LatentTensors& tensors, const RopeRows& rope) {
  return {.down = upload_down(tensors, rope),
          .latent_up = Matrix{tensors.latent_up},
          .output = Matrix{tensors.output},
          .softmax_factor = tensors.softmax_factor};
}

template <class T>
ExpandedAttentionLayer<T>::ExpandedAttentionLayer(ExpandedWeights weights, index_t capacity, std::shared_ptr<OwnedHeads<T>> cache)
    : weights_(std::move(weights)), capacity_(capacity), cache_(std::move(cache)) {}

// [queue]
template <class T>
void ExpandedAttentionLayer<T>::queue(const float* x, float* y, const Step& step) {
  const Scratch::Frame frame(step.scratch);
  const LatentSizes& sizes = weights_.down.sizes;
  const int N = step.rows(), M = static_cast<int>(sizes.width), H = static_cast<int>(sizes.heads);
  const int plain = static_cast<int>(sizes.plain_width), P = static_cast<int>(sizes.rope_width), D = plain + P;
  const int R = static_cast<int>(sizes.rank), W = static_cast<int>(sizes.value_width);
  const LatentDown::Rows rows = weights_.down.queue(x, step);
  float* const latents = step.scratch.take<float>(std::size_t(N) * (R + P));
  float* const expanded = step.scratch.take<float>(std::size_t(N) * H * (plain + W));
  float* const mixed = step.scratch.take<float>(std::size_t(N) * H * W);
  const AttendScratch scratch(step, H, H, W, capacity_);

  make_latents(rows.latents, latents, rows.turned_in_place(sizes), step.stream);
  linear(weights_.latent_up, {latents, R + P}, N, {expanded, H * (plain + W)}, step.stream);
  append_expanded<T>({.expanded = expanded, .latents = latents, .heads = H, .plain_width = plain, .rope_width = P,
                      .value_width = W, .rank = R, .tokens = step.tokens, .keys = cache_->keys, .values = cache_->values},
                     step.stream);
  attend_heads<T>({.queries = rows.queries.data, .query_row = rows.queries.stride, .keys = cache_->keys,
                   .values = cache_->values, .heads = H, .groups = H, .key_width = D, .value_width = W,
                   .scale = weights_.softmax_factor / std::sqrt(static_cast<float>(D)), .tokens = step.tokens,
                   .splits = scratch.splits, .partial = scratch.partial, .lse = scratch.lse, .output = mixed},
                  step);
  linear(weights_.output, {mixed, H * W}, N, {y, M}, step.stream);
}
// [queue]

template class ExpandedAttentionLayer<float>;
template class ExpandedAttentionLayer<bf16>;

}  // namespace kv::cuda
