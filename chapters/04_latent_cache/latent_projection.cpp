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

// [latents]
Tensor<2> LatentProjection::latents(const Tensor<2>& x, std::span<const index_t> positions) const {
  require_position_for_every_row(positions, x);
  Tensor<2> latents = (*weights_.latent_down)(x);
  const std::span<const float> norm(weights_.latent_norm.data(), sizes_.rank);
  const RopeTable table = rope_.table(positions);
  for (index_t n = 0; n < x.shape(0); ++n) {
    const std::span<float> latent = row(latents, n).first(sizes_.rank),
                           key = row(latents, n).subspan(sizes_.rank);
    rms_norm(latent, norm, latent_norm_epsilon);
    rotate_interleaved(key, row(table.cos, n), row(table.sin, n));
  }
  return latents;
}
// [latents]

// [queries]
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
// [queries]

// [expand]
LatentProjection::Expanded LatentProjection::expand(const Tensor<2>& latents) const {
  const index_t S = latents.shape(0), H = sizes_.heads, D = sizes_.key_width(),
                W = sizes_.value_width;
  const index_t R = sizes_.rank, plain = sizes_.plain_width;
  require_shape("expand: latents (S,R+P)", latents, {S, sizes_.row_width()});
  Tensor<2> plain_keys_and_values = empty<2>({S, H * (plain + W)});
  weights_.latent_up->multiply(S, latents.data(), sizes_.row_width(), plain_keys_and_values.data(),
                               H * (plain + W));

  Expanded result{empty<3>({S, H, D}), empty<3>({S, H, W})};
  for (index_t s = 0; s < S; ++s)
    for (index_t h = 0; h < H; ++h) {
      const std::span<const float> both =
          row(plain_keys_and_values, s).subspan(h * (plain + W), plain + W);
      std::ranges::copy(both.first(plain), row(result.keys, s, h).begin());
      std::ranges::copy(row(latents, s).subspan(R), row(result.keys, s, h).subspan(plain).begin());
      std::ranges::copy(both.subspan(plain), row(result.values, s, h).begin());
    }
  return result;
}
// [expand]

// [project]
Heads LatentProjection::project(const Tensor<2>& x, std::span<const index_t> positions) const {
  auto [keys, values] = expand(latents(x, positions));
  return {queries(x, positions), std::move(keys), std::move(values)};
}
// [project]

Tensor<2> LatentProjection::output(const Tensor<3>& mixed) const { return (*weights_.output)(join_heads(mixed)); }

}  // namespace kv
