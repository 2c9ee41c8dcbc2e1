#include "chapters/06_cuda_kernels/model/attention_layers.hpp"

#include <bit>
#include <cmath>

namespace kv::cuda {

AttendScratch::AttendScratch(const Step& step, int heads, int groups, int value_width, index_t capacity)
    : splits(attend_splits(static_cast<int>(std::bit_ceil(unsigned(step.rows()))), heads, groups, static_cast<int>(capacity), step.multiprocessors)) {
  if (splits == 1) return;  // as many for a number of rows as for the next power of two: it takes no more than that
  partial = step.scratch.take<float>(std::size_t(step.rows()) * heads * splits * value_width);
  lse = step.scratch.take<float>(std::size_t(step.rows()) * heads * splits);
}

// [choose]
template <class T>
void attend_heads(const Attend<T>& problem, const Step& step) {
  if (!step.prompts.empty() && flash_serves(problem.key_width, problem.value_width))
    flash(problem, all_tiles(step.prompts), step.stream);
  else
    attend(problem, step.stream);
}
// [choose]
template void attend_heads(const Attend<float>&, const Step&);
template void attend_heads(const Attend<bf16>&, const Step&);

GroupedWeights upload(const GroupedTensors& tensors, float norm_epsilon) {
  return {.projection = Matrix{tensors.query, tensors.key, tensors.value},
          .output = Matrix{tensors.output},
          .query_norm = {tensors.query_norm, norm_epsilon},
          .key_norm = {tensors.key_norm, norm_epsilon},
          .sizes = tensors.sizes};
}

template <class T>
GroupedAttentionLayer<T>::GroupedAttentionLayer(GroupedWeights weights, const RopeRows& rope, index_t capacity,
                                                std::shared_ptr<OwnedHeads<T>> cache)
    : weights_(std::move(weights)), rope_(rope), capacity_(capacity), cache_(std::move(cache)) {}

// [queue]
template <class T>
void GroupedAttentionLayer<T>::queue(const float* x, float* y, const Step& step) {
  const Scratch::Frame frame(step.scratch);
  const int N = step.rows(), M = weights_.projection.columns(), H = static_cast<int>(weights_.sizes.query_heads);
  const int G = static_cast<int>(weights_.sizes.key_value_heads), D = static_cast<int>(weights_.sizes.key_width);
  const int W = static_cast<int>(weights_.sizes.value_width), width = weights_.projection.rows();
  float* const heads = step.scratch.take<float>(std::size_t(N) * width);
  float* const mixed = step.scratch.take<float>(std::size_t(N) * H * W);
  const AttendScratch scratch(step, H, G, W, capacity_);

  linear(weights_.projection, {x, M}, N, {heads, width}, step.stream);
  append_heads<T>({.heads = heads, .query_heads = H, .key_value_heads = G, .key_width = D, .value_width = W,
                   .query_norm = weights_.query_norm.weight(), .key_norm = weights_.key_norm.weight(),
                   .norm_epsilon = Norm(weights_.query_norm).epsilon, .rope = rope_, .tokens = step.tokens,
                   .keys = cache_->keys, .values = cache_->values},
                  step.stream);
  attend_heads<T>({.queries = heads, .query_row = width, .keys = cache_->keys, .values = cache_->values, .heads = H, .groups = G,
                   .key_width = D, .value_width = W, .scale = 1.0f / std::sqrt(static_cast<float>(D)), .tokens = step.tokens,
                   .splits = scratch.splits, .partial = scratch.partial, .lse = scratch.lse, .output = mixed},
                  step);
  linear(weights_.output, {mixed, H * W}, N, {y, M}, step.stream);
}
// [queue]

template class GroupedAttentionLayer<float>;
template class GroupedAttentionLayer<bf16>;

}  // namespace kv::cuda
