#include "chapters/04_latent_cache/cost.hpp"

namespace kv {
namespace {

/// W_UK and W_UV of all heads, applied once.
double up_projection(const LatentSizes& sizes) {
  return 2.0 * static_cast<double>(sizes.heads * (sizes.plain_width + sizes.value_width) * sizes.rank);
}

}  // namespace

double visible_pairs(index_t T, index_t S) {
  const double t = static_cast<double>(T);
  return t * static_cast<double>(S) - t * (t - 1.0) / 2.0;
}

// [cost]
Cost naive_cost(const LatentSizes& sizes, index_t T, index_t S) {
  const double per_pair =
      static_cast<double>(sizes.heads * (sizes.key_width() + sizes.value_width));
  return {.up_projection = static_cast<double>(T) * up_projection(sizes),
          .attention = 2.0 * visible_pairs(T, S) * per_pair,
          .cache_values = static_cast<double>(S) * per_pair};
}

Cost decompressed_cost(const LatentSizes& sizes, index_t T, index_t S) {
  return {.up_projection = static_cast<double>(S) * up_projection(sizes),
          .attention = naive_cost(sizes, T, S).attention,
          .cache_values = static_cast<double>(S * sizes.row_width())};
}

Cost absorbed_cost(const LatentSizes& sizes, index_t T, index_t S) {
  const double per_pair = static_cast<double>(sizes.heads * (sizes.row_width() + sizes.rank));
  return {.up_projection = static_cast<double>(T) * up_projection(sizes),
          .attention = 2.0 * visible_pairs(T, S) * per_pair,
          .cache_values = static_cast<double>(S * sizes.row_width())};
}

bool expanding_is_cheaper(const LatentSizes& sizes, index_t T, index_t S) {
  return decompressed_cost(sizes, T, S).flop() < absorbed_cost(sizes, T, S).flop();
}
// [cost]

}  // namespace kv
