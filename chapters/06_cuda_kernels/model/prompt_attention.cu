#include <cmath>

#include "chapters/06_cuda_kernels/model/attention_layers.hpp"

namespace kv::cuda {
namespace {

constexpr int threads = 64;

/// The rotated part of a latent's row becomes that of every head's key.  @param keys (S,H*D)
template <class T>
__global__ void __launch_bounds__(threads) spread_kernel(const StoredRows<T> latents, int sequence, int rank, int plain, int rope, float* keys) {
  const int s = blockIdx.x, h = blockIdx.y, heads = gridDim.y, D = plain + rope;
  const T* from = latents.row(sequence, s) + rank;
  float* to = keys + (std::size_t(s) * heads + h) * D + plain;
  for (int i = threadIdx.x; i < rope; i += threads) to[i] = to_float(from[i]);
}

}  // namespace

bool prompts_are_expanded(const LatentSizes& sizes, const Step& step) {
  return !step.prompts.empty() && flash_serves(static_cast<int>(sizes.key_width()), static_cast<int>(sizes.value_width));
}

// [expand]
template <class T>
void attend_expanded(const AbsorbedAttentionLayer::Weights& weights, const StoredRows<T>& latents,
                     const RowsOut& queries, float* mixed, const Step& step) {
  const LatentSizes& sizes = weights.down.sizes;
  const int H = static_cast<int>(sizes.heads), R = static_cast<int>(sizes.rank);
  const int P = static_cast<int>(sizes.rope_width), plain = static_cast<int>(sizes.plain_width);
  const int D = plain + P, W = static_cast<int>(sizes.value_width);
  for (const Prompt& prompt : step.prompts) {
    const Scratch::Frame frame(step.scratch);
    const int S = prompt.tokens;
    float* const keys = step.scratch.take<float>(std::size_t(S) * H * D);
    float* const values = step.scratch.take<float>(std::size_t(S) * H * W);
    const Rows<const T> rows{latents.data + prompt.sequence * latents.of_sequence,
                             latents.of_token};
    linear_heads(weights.key_up, H, rows, RowsOut{keys, H * D},
                 {.rows = S, .outputs = plain, .x_step = 0, .y_step = D}, step.stream);
    launch({dim3(S, H), threads, 0, step.stream}, spread_kernel<T>, latents, prompt.sequence, R,
           plain, P, keys);
    linear_heads(weights.out_of_latents, H, rows, RowsOut{values, H * W},
                 {.rows = S, .outputs = W, .x_step = 0, .y_step = W}, step.stream);
    const float scale = weights.softmax_factor / std::sqrt(static_cast<float>(D));
    flash<float>({.queries = queries.data, .query_row = queries.stride, .keys = {keys, 0, H * D},
                  .values = {values, 0, H * W}, .heads = H, .groups = H, .key_width = D,
                  .value_width = W, .scale = scale, .tokens = step.tokens, .splits = 1,
                  .partial = nullptr, .lse = nullptr, .output = mixed},
                 prompt.tiles, step.stream);
  }
}
// [expand]

template void attend_expanded(const AbsorbedAttentionLayer::Weights&, const CacheRows&, const RowsOut&, float*, const Step&);
template void attend_expanded(const AbsorbedAttentionLayer::Weights&, const PagedRows&, const RowsOut&, float*, const Step&);

}  // namespace kv::cuda
