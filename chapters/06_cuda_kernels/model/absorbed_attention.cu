#include <cmath>

#include "chapters/06_cuda_kernels/model/attention_layers.hpp"

namespace kv::cuda {

// [slices]
AbsorbedAttentionLayer::Weights upload_absorbed(const LatentTensors& tensors, const RopeRows& rope) {
  const index_t H = tensors.sizes.heads, plain = tensors.sizes.plain_width, W = tensors.sizes.value_width;
  // Heads do not start where blocks of scales do, and scales of rows do not follow a transposition: widened first.
  const Tensor<2> wide = tensors.latent_up.has_scales() ? widened(tensors.latent_up) : Tensor<2>();
  const kv::MatrixView up = tensors.latent_up.has_scales() ? view(wide) : tensors.latent_up;
  std::vector<LinearView> into_latents, key_up, out_of_latents;
  for (index_t h = 0; h < H; ++h) {
    const index_t first = h * (plain + W);
    key_up.push_back(up.row_slice(first, plain));
    into_latents.push_back(up.row_slice(first, plain).transposed());
    out_of_latents.push_back(up.row_slice(first + plain, W));
  }
  return {.down = upload_down(tensors, rope),
          .into_latents = Matrix(into_latents),
          .key_up = Matrix(key_up),
          .out_of_latents = Matrix(out_of_latents),
          .output = Matrix{tensors.output},
          .softmax_factor = tensors.softmax_factor};
}
// [slices]

AbsorbedAttentionLayer::AbsorbedAttentionLayer(Weights weights, const Limits& limits)
    : weights_(std::move(weights)), capacity_(limits.capacity), latents_(limits, weights_.down.sizes.row_width()) {}

// [queue]
void AbsorbedAttentionLayer::queue(const float* x, float* y, const Step& step) {
  const Scratch::Frame frame(step.scratch);
  const LatentSizes& sizes = weights_.down.sizes;
  const int N = step.rows(), M = static_cast<int>(sizes.width), width = static_cast<int>(sizes.heads * sizes.value_width);
  const LatentDown::Rows rows = weights_.down.queue(x, step);
  float* const mixed = step.scratch.take<float>(std::size_t(N) * width);
  if (prompts_are_expanded(sizes, step)) {
    append_latents(rows.latents, CacheRows(latents_), rows.turned_in_place(sizes), step.stream);
    attend_expanded(weights_, CacheRows(latents_), rows.queries, mixed, step);
  } else {
    attend_absorbed(rows, mixed, step);
  }
  linear(weights_.output, {mixed, width}, N, {y, M}, step.stream);
}

void AbsorbedAttentionLayer::attend_absorbed(const LatentDown::Rows& rows, float* mixed, const Step& step) {
  const Scratch::Frame frame(step.scratch);
  const LatentSizes& sizes = weights_.down.sizes;
  const int N = step.rows(), H = static_cast<int>(sizes.heads), D = static_cast<int>(sizes.key_width());
  const int R = static_cast<int>(sizes.rank), W = static_cast<int>(sizes.value_width), row = static_cast<int>(sizes.row_width());
  float* const absorbed = step.scratch.take<float>(std::size_t(N) * H * row);
  float* const latents = step.scratch.take<float>(std::size_t(N) * H * R);
  const AttendScratch scratch(step, H, 1, R, capacity_);
  append_latents(rows.latents, CacheRows(latents_), TurnedQueries<float>{absorbed + R, H * row, row}, step.stream);
  linear_heads(weights_.into_latents, H, rows.queries, RowsOut{absorbed, H * row},
               {.rows = N, .outputs = R, .x_step = D, .y_step = row}, step.stream);
  // The scale is that of the heads that were absorbed, not of the R+P numbers; the values are the keys' first R.
  attend<float>({.queries = absorbed, .query_row = H * row, .keys = latents_, .values = latents_, .heads = H, .groups = 1,
          .key_width = row, .value_width = R, .scale = weights_.softmax_factor / std::sqrt(static_cast<float>(D)),
          .tokens = step.tokens, .splits = scratch.splits, .partial = scratch.partial, .lse = scratch.lse, .output = latents},
         step.stream);
  linear_heads(weights_.out_of_latents, H, RowsIn{latents, H * R}, RowsOut{mixed, H * W},
               {.rows = N, .outputs = W, .x_step = R, .y_step = W}, step.stream);
}
// [queue]

}  // namespace kv::cuda
