#include "chapters/04_latent_cache/latent_projection.hpp"
#include "chapters/06_cuda_kernels/model/attention_layers.hpp"

namespace kv::cuda {

LatentDown upload_down(const LatentTensors& tensors, const RopeRows& rope) {
  return {.down = tensors.query_down ? Matrix{*tensors.query_down, tensors.latent_down} : Matrix{tensors.latent_down},
          .query_norm = {tensors.query_norm, latent_norm_epsilon},
          .latent_norm = {tensors.latent_norm, latent_norm_epsilon},
          .query_up = Matrix{tensors.query_up},
          .sizes = tensors.sizes,
          .rope = rope};
}

std::size_t LatentDown::scratch_bytes(int rows) const {
  return Scratch::bytes_for<float>(std::size_t(rows) * down_width()) +
         Scratch::bytes_for<float>(std::size_t(rows) * query_up.rows());
}

// [queue]
LatentDown::Rows LatentDown::queue(const float* x, const Step& step) const {
  const int N = step.rows(), M = down.columns(), Q = query_rank();
  float* const compressed = step.scratch.take<float>(std::size_t(N) * down_width());
  float* const queries = step.scratch.take<float>(std::size_t(N) * query_up.rows());
  linear(down, {x, M}, N, {compressed, down_width()}, step.stream);  // queries' and latents' compression in one
  if (Q > 0) {
    rms_norm(query_norm, {compressed, down_width()}, N, {compressed, down_width()}, step.stream);
    linear(query_up, {compressed, down_width()}, N, {queries, query_up.rows()}, step.stream);
  } else {
    linear(query_up, {x, M}, N, {queries, query_up.rows()}, step.stream);
  }
  return {queries, {.compressed = {compressed + Q, down_width()}, .norm = latent_norm, .rope = rope, .tokens = step.tokens}};
}
// [queue]

}  // namespace kv::cuda
