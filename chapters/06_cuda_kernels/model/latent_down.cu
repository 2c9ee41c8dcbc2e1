#include "chapters/04_latent_cache/latent_projection.hpp"
#include "chapters/06_cuda_kernels/model/attention_layers.hpp"

namespace kv::cuda {

LatentDown upload_down(const LatentTensors& tensors, const RopeRows& rope) {
  return {.down = Matrix{tensors.query_down.value_or(tensors.query_up), tensors.latent_down},
          .query_norm = {tensors.query_norm, latent_norm_epsilon},
          .latent_norm = {tensors.latent_norm, latent_norm_epsilon},
          .query_up = tensors.query_down ? Matrix{tensors.query_up} : Matrix(),
          .sizes = tensors.sizes,
          .rope = rope};
}

// [queue]
LatentDown::Rows LatentDown::queue(const float* x, const Step& step) const {
  const int N = step.rows(), M = down.columns(), width = down.rows();
  float* const compressed = step.scratch.take<float>(std::size_t(N) * width);
  linear(down, {x, M}, N, {compressed, width}, step.stream);  // what becomes queries and what becomes latents in one
  RowsOut queries{compressed, width};
  if (sizes.query_rank) {
    queries = {step.scratch.take<float>(std::size_t(N) * query_up.rows()), query_up.rows()};
    rms_norm(query_norm, {compressed, width}, N, {compressed, width}, step.stream);
    linear(query_up, {compressed, width}, N, queries, step.stream);
  }
  return {queries,
          {.compressed = {compressed + width - sizes.row_width(), width}, .norm = latent_norm, .rope = rope, .tokens = step.tokens,
           .queries = {queries.data + sizes.plain_width, queries.stride}, .heads = static_cast<int>(sizes.heads),
           .head_width = static_cast<int>(sizes.key_width())}};
}
// [queue]

}  // namespace kv::cuda
