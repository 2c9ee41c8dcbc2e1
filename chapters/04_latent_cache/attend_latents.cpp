#include "chapters/04_latent_cache/attend_latents.hpp"

#include <functional>
#include <vector>

#include "common/dot.hpp"
#include "common/parallel.hpp"
#include "common/softmax.hpp"

namespace kv {
namespace {

void require_fit(const Tensor<3>& queries, const Tensor<2>& latents, index_t S, index_t rank) {
  const index_t T = queries.shape(0), C = latents.shape(0), width = queries.shape(2);
  require_shape("attend_latents: latents (C,R+P)", latents, {C, width});
  if (rank > width)
    throw ShapeError("attend_latents: rank " + std::to_string(rank) + " is more than a row's " + std::to_string(width));
  if (T > S || S > C)
    throw std::out_of_range("attend_latents: needs T <= S <= C, found T = " + std::to_string(T) + ", S = " +
                            std::to_string(S) + ", C = " + std::to_string(C));
}

/// All heads of one token: a matrix (H,R+P).
RowsView heads_of(const Tensor<3>& queries, index_t t) {
  return {row(queries, t, 0).data(), queries.shape(2), queries.shape(1), queries.shape(2)};
}

}  // namespace

// [attend]
Tensor<3> attend_latents(const Tensor<3>& queries, const Tensor<2>& latents, index_t S, index_t rank, float scale) {
  require_fit(queries, latents, S, rank);
  const index_t T = queries.shape(0), H = queries.shape(1), stride = latents.shape(1);
  Tensor<3> output = empty<3>({T, H, rank});
  const auto attend_token = [&](index_t t) {
    const index_t visible = S - T + t + 1;  // the causal mask: itself and all before it
    Tensor<2> weights = empty<2>({H, visible});
    dot_rows(heads_of(queries, t), {latents.data(), stride, visible, stride}, weights.data(), visible);
    parallel_for(H, 16384 / visible + 1, [&](index_t first, index_t last) {
      for (index_t h = first; h < last; ++h) {
        for (float& weight : row(weights, h)) weight *= scale;
        softmax(row(weights, h));
      }
    });
    weighted_sum({weights.data(), visible, H, visible}, {latents.data(), stride, visible, rank},
                 row(output, t, 0).data(), rank);
  };
  parallel_for(T, 1, [&](index_t first, index_t last) {
    for (index_t t = first; t < last; ++t) attend_token(t);
  });
  return output;
}
// [attend]

}  // namespace kv
