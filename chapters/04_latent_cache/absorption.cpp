#include "chapters/04_latent_cache/absorption.hpp"

#include "common/tensor/parallel.hpp"

namespace kv {
namespace {

/// Heads for one thread to be worth waking it.
index_t grain(index_t multiplications_per_head) { return (1 << 20) / (multiplications_per_head + 1) + 1; }

}  // namespace

// [slices]
Absorption::Absorption(const MatrixView& up, const LatentSizes& sizes) : sizes_(sizes) {
  const index_t H = sizes.heads, plain = sizes.plain_width, W = sizes.value_width;
  const Shape<2> found{up.rows, up.columns}, expected{H * (plain + W), sizes.rank};
  require_shape("absorption: kv_b (H*(plain+W),R)", found, expected);
  const Tensor<2> wide = up.has_scales() ? widened(up) : Tensor<2>();
  const MatrixView matrix = up.has_scales() ? view(wide) : up;
  for (index_t h = 0; h < H; ++h) {
    const index_t first = h * (plain + W);
    into_latents_.emplace_back(matrix.row_slice(first, plain).transposed());
    out_of_latents_.emplace_back(matrix.row_slice(first + plain, W));
  }
}
// [slices]

// [absorb]
Tensor<3> Absorption::absorb(const Tensor<3>& queries) const {
  const index_t N = queries.shape(0), H = sizes_.heads, D = sizes_.key_width(), width = sizes_.row_width();
  require_shape("absorb: queries (N,H,D)", queries, {N, H, D});
  Tensor<3> absorbed = empty<3>({N, H, width});
  parallel_for(H, grain(N * sizes_.rank * sizes_.plain_width), [&](index_t first, index_t last) {
    for (index_t h = first; h < last; ++h) {
      into_latents_[h].multiply(N, queries.data() + h * D, H * D, absorbed.data() + h * width, H * width);
      for (index_t n = 0; n < N; ++n)
        std::ranges::copy(row(queries, n, h).subspan(sizes_.plain_width),
                          row(absorbed, n, h).subspan(sizes_.rank).begin());
    }
  });
  return absorbed;
}
// [absorb]

// [lift]
Tensor<3> Absorption::lift(const Tensor<3>& mixed) const {
  const index_t N = mixed.shape(0), H = sizes_.heads, R = sizes_.rank, W = sizes_.value_width;
  require_shape("lift: mixed (N,H,R)", mixed, {N, H, R});
  Tensor<3> lifted = empty<3>({N, H, W});
  parallel_for(H, grain(N * R * W), [&](index_t first, index_t last) {
    for (index_t h = first; h < last; ++h)
      out_of_latents_[h].multiply(N, mixed.data() + h * R, H * R, lifted.data() + h * W, H * W);
  });
  return lifted;
}
// [lift]

}  // namespace kv
