#include <cmath>

#include "chapters/06_cuda_kernels/model/attention_layers.hpp"

namespace kv::cuda {

// [slices]
AbsorbedAttentionLayer::Weights upload_absorbed(const LatentTensors& tensors, const RopeRows& rope) {
  const index_t H = tensors.sizes.heads, plain = tensors.sizes.plain_width, W = tensors.sizes.value_width;
  // Heads do not start where blocks of scales do, and scales of rows do not follow a transposition: widened first.
  const Tensor<2> wide = tensors.latent_up.has_scales() ? widened(tensors.latent_up) : Tensor<2>();
  const kv::MatrixView up = tensors.latent_up.has_scales() ? view(wide) : tensors.latent_up;
  std::vector<LinearView> into_latents, out_of_latents;
  for (index_t h = 0; h < H; ++h) {
    const index_t first = h * (plain + W);
    into_latents.push_back(up.row_slice(first, plain).transposed());
    out_of_latents.push_back(up.row_slice(first + plain, W));
  }
  return {.down = upload_down(tensors, rope),
          .into_latents = Matrix(into_latents),
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
  const int N = step.rows(), M = static_cast<int>(sizes.width), H = static_cast<int>(sizes.heads);
  const int D = static_cast<int>(sizes.key_width()), row = static_cast<int>(sizes.row_width());
  const int R = static_cast<int>(sizes.rank), W = static_cast<int>(sizes.value_width);
  const auto [queries, compressed] = weights_.down.queue(x, step);
  float* const absorbed = step.scratch.take<float>(std::size_t(N) * H * row);
  float* const mixed = step.scratch.take<float>(std::size_t(N) * H * R);
  float* const lifted = step.scratch.take<float>(std::size_t(N) * H * W);
  const AttendScratch scratch(step, H, 1, R, capacity_);

  append_latents(compressed, latents_, {absorbed + R, H * row, row}, step.stream);
  linear_heads(weights_.into_latents, H, queries, RowsOut{absorbed, H * row},
               {.rows = N, .outputs = R, .x_step = D, .y_step = row}, step.stream);
  // The scale is that of the heads that were absorbed, not of the R+P numbers; the values are the keys' first R.
  attend({.queries = absorbed, .query_row = H * row, .keys = latents_, .values = latents_, .heads = H, .groups = 1,
          .key_width = row, .value_width = R, .scale = weights_.softmax_factor / std::sqrt(static_cast<float>(D)),
          .tokens = step.tokens, .splits = scratch.splits, .partial = scratch.partial, .lse = scratch.lse, .output = mixed},
         step.stream);
  linear_heads(weights_.out_of_latents, H, RowsIn{mixed, H * R}, RowsOut{lifted, H * W},
               {.rows = N, .outputs = W, .x_step = R, .y_step = W}, step.stream);
  linear(weights_.output, {lifted, H * W}, N, {y, M}, step.stream);
}
// [queue]

}  // namespace kv::cuda
