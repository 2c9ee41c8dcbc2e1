#include "chapters/06_cuda_kernels/model/attention_layers.hpp"

#include <cmath>

namespace kv::cuda {

namespace {

/// The largest number of splits there can be for so many tokens.
int most_splits(index_t capacity) { return attend_splits(1, 1, 1, static_cast<int>(capacity), 1 << 20); }

}  // namespace

AttendScratch::AttendScratch(const Step& step, int heads, int groups, int value_width, index_t capacity)
    : splits(attend_splits(step.rows(), heads, groups, static_cast<int>(capacity), step.multiprocessors)) {
  if (splits == 1) return;
  partial = step.scratch.take<float>(std::size_t(step.rows()) * heads * splits * value_width);
  lse = step.scratch.take<float>(std::size_t(step.rows()) * heads * splits);
}

std::size_t AttendScratch::bytes(int rows, int heads, int value_width, index_t capacity) {
  // Many rows leave few splits each: rows * splits is bounded by the rows there are plus what fills the GPU twice.
  constexpr int blocks_that_fill = 2 * 1024;
  const std::size_t parts = std::size_t(heads) * std::min<std::size_t>(std::size_t(rows) * most_splits(capacity), rows + blocks_that_fill);
  return Scratch::bytes_for<float>(parts * value_width) + Scratch::bytes_for<float>(parts);
}

// [choose]
void attend_heads(const Attend& problem, const Step& step) {
  if (step.tiles.count > 0 && flash_serves(problem.key_width, problem.value_width))
    flash(problem, step.tiles, step.stream);
  else
    attend(problem, step.stream);
}
// [choose]

GroupedAttentionLayer::Weights upload(const GroupedTensors& tensors, float norm_epsilon) {
  return {.projection = Matrix{tensors.query, tensors.key, tensors.value},
          .output = Matrix{tensors.output},
          .query_norm = {tensors.query_norm, norm_epsilon},
          .key_norm = {tensors.key_norm, norm_epsilon},
          .sizes = tensors.sizes};
}

GroupedAttentionLayer::GroupedAttentionLayer(Weights weights, const RopeRows& rope, const Limits& limits)
    : weights_(std::move(weights)), rope_(rope), capacity_(limits.capacity),
      keys_(limits, weights_.sizes.key_value_heads * weights_.sizes.key_width),
      values_(limits, weights_.sizes.key_value_heads * weights_.sizes.value_width) {}

// [queue]
void GroupedAttentionLayer::queue(const float* x, float* y, const Step& step) {
  const Scratch::Frame frame(step.scratch);
  const int N = step.rows(), M = weights_.projection.columns(), H = static_cast<int>(weights_.sizes.query_heads);
  const int G = static_cast<int>(weights_.sizes.key_value_heads), D = static_cast<int>(weights_.sizes.key_width);
  const int W = static_cast<int>(weights_.sizes.value_width), width = weights_.projection.rows();
  float* const heads = step.scratch.take<float>(std::size_t(N) * width);
  float* const mixed = step.scratch.take<float>(std::size_t(N) * H * W);
  const AttendScratch scratch(step, H, G, W, capacity_);

  linear(weights_.projection, {x, M}, N, {heads, width}, step.stream);
  append_heads({.heads = heads, .query_heads = H, .key_value_heads = G, .key_width = D, .value_width = W,
                .query_norm = weights_.query_norm.weight(), .key_norm = weights_.key_norm.weight(),
                .norm_epsilon = Norm(weights_.query_norm).epsilon, .rope = rope_, .tokens = step.tokens,
                .keys = keys_, .values = values_},
               step.stream);
  attend_heads({.queries = heads, .query_row = width, .keys = keys_, .values = values_, .heads = H, .groups = G,
                .key_width = D, .value_width = W, .scale = 1.0f / std::sqrt(static_cast<float>(D)), .tokens = step.tokens,
                .splits = scratch.splits, .partial = scratch.partial, .lse = scratch.lse, .output = mixed},
               step);
  linear(weights_.output, {mixed, H * W}, N, {y, M}, step.stream);
}
// [queue]

std::size_t GroupedAttentionLayer::scratch_bytes(int rows) const {
  const index_t H = weights_.sizes.query_heads, W = weights_.sizes.value_width;
  return Scratch::bytes_for<float>(std::size_t(rows) * weights_.projection.rows()) +
         Scratch::bytes_for<float>(rows * H * W) +
         AttendScratch::bytes(rows, static_cast<int>(H), static_cast<int>(W), capacity_);
}

}  // namespace kv::cuda
