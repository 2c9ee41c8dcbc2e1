#pragma once
/// @file
/// A random model whose latents have DeepSeek's widths, 512 + 64, as the ladder asks for them. Owns its weights.
/// Its heads are of a width that no kernel for prompts serves; plain 64, W 128 makes heads that one does.
#include <cmath>
#include <memory>

#include "chapters/models/model_tensors.hpp"
#include "tests/support/random.hpp"

namespace kv::test {

struct WideLatents {
  index_t M = 24, H = 3, plain, W, F = 17, V = 31;
  std::vector<std::unique_ptr<Tensor<2>>> matrices;
  ModelTensors tensors;

  /// Layers of dense networks, and after them some of mixtures with a shared expert.
  WideLatents(int dense, int mixtures, index_t plain_width = 8, index_t value_width = 6) : plain(plain_width), W(value_width) {
    tensors.embedding = matrix(V, M);
    for (int layer = 0; layer < dense + mixtures; ++layer)
      tensors.layers.push_back({.attention_norm = norm(M),
                                .attention = attention(),
                                .feed_forward_norm = norm(M),
                                .feed_forward = layer < dense ? FeedForwardTensors(swiglu(F)) : FeedForwardTensors(mixture())});
    tensors.final_norm = norm(M);
    tensors.head = matrix(V, M);
    tensors.norm_epsilon = 1e-5f;
    for (const double frequency : rope_frequencies(64, 10000.0)) tensors.rope.frequencies.push_back(static_cast<float>(frequency));
  }

 private:
  MatrixView matrix(index_t rows, index_t columns) {
    const float spread = 1.7f / std::sqrt(static_cast<float>(columns));
    matrices.push_back(std::make_unique<Tensor<2>>(
        random_tensor<2>({rows, columns}, static_cast<unsigned>(70 + matrices.size()), -spread, 1.1f * spread)));
    return view(*matrices.back());
  }
  Tensor<1> norm(index_t size) { return random_tensor<1>({size}, static_cast<unsigned>(size), 0.5f, 1.5f); }
  LatentTensors attention() {
    const LatentSizes sizes{.width = M, .heads = H, .rank = 512, .rope_width = 64, .plain_width = plain, .value_width = W, .query_rank = {}};
    return {.query_down = {},
            .query_norm = empty<1>({0}),
            .query_up = matrix(H * sizes.key_width(), M),
            .latent_down = matrix(sizes.row_width(), M),
            .latent_norm = norm(512),
            .latent_up = matrix(H * (plain + W), 512),
            .output = matrix(M, H * W),
            .sizes = sizes,
            .softmax_factor = 1.3f};
  }
  SwiGluTensors swiglu(index_t width) { return {matrix(width, M), matrix(width, M), matrix(M, width)}; }
  MixtureTensors mixture() {
    constexpr index_t E = 5, K = 2;
    MixtureTensors tensors{.gate = matrix(E, M),
                           .rule = {.scores = RoutingRule::Scores::softmax, .experts = E, .chosen = K},
                           .experts = {},
                           .shared = swiglu(2 * F),
                           .shared_gate = {}};
    for (index_t e = 0; e < E; ++e) tensors.experts.push_back(swiglu(F));
    return tensors;
  }
};

}  // namespace kv::test
