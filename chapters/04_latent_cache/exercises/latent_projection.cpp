// An exercise, in place of chapters/04_latent_cache/latent_projection.cpp: see exercises.md
// Tests: 04_latent_cache_test
#include "chapters/04_latent_cache/latent_projection.hpp"

#include "common/tensor/rms_norm.hpp"

namespace kv {
LatentProjection::LatentProjection(Weights weights, LatentSizes sizes, Rope rope, float softmax_factor)
    : weights_(std::move(weights)), sizes_(sizes), rope_(std::move(rope)), softmax_factor_(softmax_factor) {
  const index_t M = sizes.width, H = sizes.heads, R = sizes.rank, D = sizes.key_width(), W = sizes.value_width;
  const index_t query_inputs = sizes.query_rank.value_or(M);
  if (sizes.query_rank) {
    require_sizes("query compression (query_rank,M)", *weights_.query_down, query_inputs, M);
    require_shape("query norm (query_rank)", weights_.query_norm, {query_inputs});
  }
  require_sizes("query projection (H*D,inputs)", *weights_.query_up, H * D, query_inputs);
  require_sizes("latent projection (R+P,M)", *weights_.latent_down, sizes.row_width(), M);
  require_shape("latent norm (R)", weights_.latent_norm, {R});
  require_sizes("expansion (H*(plain+W),R)", *weights_.latent_up, H * (sizes.plain_width + W), R);
  if (weights_.output) require_sizes("output projection (M,H*W)", *weights_.output, M, H * W);
  const Shape<1> pairs{rope_.frequencies.size()}, expected{sizes.rope_width / 2};
  require_shape("rope (P/2)", pairs, expected);
}

Tensor<2> LatentProjection::latents(const Tensor<2>& x, std::span<const index_t> positions) const {
  require_position_for_every_row(positions, x);
  Tensor<2> latents = (*weights_.latent_down)(x);
  const std::span<const float> norm(weights_.latent_norm.data(), sizes_.rank);
  const RopeTable table = rope_.table(positions);
  // --- yours ---
  // latents (N,R+P): of every row, make the first R and the last P numbers what is cached. Epsilon:
  // latent_norm_epsilon.
  throw std::logic_error("exercise 04 latent_projection: what a token leaves behind is yours to finish");
  // --- end ---
  return latents;
}

Tensor<3> LatentProjection::queries(const Tensor<2>& x, std::span<const index_t> positions) const {
  require_position_for_every_row(positions, x);
  const auto compress = [&] {
    return rms_norm((*weights_.query_down)(x), weights_.query_norm, latent_norm_epsilon);
  };
  Tensor<3> queries =
      split_heads((*weights_.query_up)(sizes_.query_rank ? compress() : x), sizes_.heads);
  const RopeTable table = rope_.table(positions);
  for (index_t n = 0; n < queries.shape(0); ++n)
    for (index_t h = 0; h < sizes_.heads; ++h) {
      const std::span<float> query = row(queries, n, h);
      rotate_interleaved(query.subspan(sizes_.plain_width), row(table.cos, n), row(table.sin, n));
      for (float& q : query) q *= softmax_factor_;
    }
  return queries;
}

LatentProjection::Expanded LatentProjection::expand(const Tensor<2>& latents) const {
  const index_t S = latents.shape(0), H = sizes_.heads, D = sizes_.key_width(),
                W = sizes_.value_width;
  const index_t R = sizes_.rank, plain = sizes_.plain_width;
  require_shape("expand: latents (S,R+P)", latents, {S, sizes_.row_width()});
  Tensor<2> plain_keys_and_values = empty<2>({S, H * (plain + W)});
  weights_.latent_up->multiply(S, latents.data(), sizes_.row_width(), plain_keys_and_values.data(),
                               H * (plain + W));

  Expanded result{empty<3>({S, H, D}), empty<3>({S, H, W})};
  // --- yours ---
  // plain_keys_and_values (S,H*(plain+W)) has of every head first W_UK c, then W_UV c. latents (S,R+P). Fill
  // result.keys (S,H,plain+P) and result.values (S,H,W).
  throw std::logic_error("exercise 04 latent_projection: keys and values are yours to put together");
  // --- end ---
  return result;
}

Heads LatentProjection::project(const Tensor<2>& x, std::span<const index_t> positions) const {
  auto [keys, values] = expand(latents(x, positions));
  return {queries(x, positions), std::move(keys), std::move(values)};
}

Tensor<2> LatentProjection::output(const Tensor<3>& mixed) const { return (*weights_.output)(join_heads(mixed)); }

}  // namespace kv
