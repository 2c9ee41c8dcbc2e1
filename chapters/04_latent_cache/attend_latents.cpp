#include "chapters/04_latent_cache/attend_latents.hpp"

#include "chapters/01_uncached_attention/attend.hpp"

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

}  // namespace

// [attend]
Tensor<3> attend_latents(const Tensor<3>& queries, const Tensor<2>& latents, index_t S,
                         index_t rank, float scale) {
  require_fit(queries, latents, S, rank);
  const index_t width = latents.shape(1);
  const RowsView keys{latents.data(), width, S, width}, values{latents.data(), width, S, rank};
  return attend(queries, ContiguousRows({keys, values}, 1), {.position = S - queries.shape(0)},
                scale);
}
// [attend]

}  // namespace kv
