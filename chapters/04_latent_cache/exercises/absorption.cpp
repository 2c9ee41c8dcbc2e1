// An exercise, in place of chapters/04_latent_cache/absorption.cpp: see exercises.md
// Tests: 04_latent_cache_test
#include "chapters/04_latent_cache/absorption.hpp"

#include "common/tensor/parallel.hpp"

namespace kv {
namespace {

/// Heads for one thread to be worth waking it.
index_t grain(index_t multiplications_per_head) { return (1 << 20) / (multiplications_per_head + 1) + 1; }

}  // namespace

Absorption::Absorption(const MatrixView& up, const LatentSizes& sizes) : sizes_(sizes) {
  const index_t H = sizes.heads, plain = sizes.plain_width, W = sizes.value_width;
  const Shape<2> found{up.rows, up.columns}, expected{H * (plain + W), sizes.rank};
  require_shape("absorption: kv_b (H*(plain+W),R)", found, expected);
  const Tensor<2> wide = up.has_scales() ? widened(up) : Tensor<2>();
  const MatrixView matrix = up.has_scales() ? view(wide) : up;
  // --- yours ---
  // matrix (H*(plain+W),R): of every head `plain` rows W_UK,h, then W rows W_UV,h. into_latents_ gets a map from plain
  // to R numbers for each head, out_of_latents_ one from R to W.
  throw std::logic_error("exercise 04 absorption: the slices are yours to cut");
  // --- end ---
}

Tensor<3> Absorption::absorb(const Tensor<3>& queries) const {
  const index_t N = queries.shape(0), H = sizes_.heads, D = sizes_.key_width(), width = sizes_.row_width();
  require_shape("absorb: queries (N,H,D)", queries, {N, H, D});
  Tensor<3> absorbed = empty<3>({N, H, width});
  // --- yours ---
  // queries (N,H,plain+P): fill absorbed (N,H,R+P).
  throw std::logic_error("exercise 04 absorption: absorb is yours to write");
  // --- end ---
  return absorbed;
}

Tensor<3> Absorption::lift(const Tensor<3>& mixed) const {
  const index_t N = mixed.shape(0), H = sizes_.heads, R = sizes_.rank, W = sizes_.value_width;
  require_shape("lift: mixed (N,H,R)", mixed, {N, H, R});
  Tensor<3> lifted = empty<3>({N, H, W});
  // --- yours ---
  // mixed (N,H,R): fill lifted (N,H,W).
  throw std::logic_error("exercise 04 absorption: lift is yours to write");
  // --- end ---
  return lifted;
}

}  // namespace kv
