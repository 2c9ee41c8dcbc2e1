#pragma once
/// @file
/// What each form of latent attention costs, in operations and in bytes of cache, for one layer.
#include "chapters/04_latent_cache/latent_sizes.hpp"

namespace kv {

/// Work for T new of S stored tokens, S counting the new ones. A multiplication and an addition are two operations.
/// What all forms share (making queries and latents, the output matrix, softmax) is left out.
struct Cost {
  double up_projection;  ///< FLOP with W_UK and W_UV
  double attention;      ///< FLOP of scores and weighted sums
  double cache_values;   ///< numbers read from the cache by one pass over it

  double flop() const { return up_projection + attention; }
  /// FLOP of attention per byte of cache, the arithmetic intensity.
  double intensity(index_t element_bytes) const { return attention / (cache_values * static_cast<double>(element_bytes)); }
};

/// Pairs of a new token and one it may see: \f$ TS - T(T-1)/2 \f$
double visible_pairs(index_t T, index_t S);

/// Keys and values cached in full: \f$ 2TRH(n+W) + 2\,\mathrm{pairs}\,H(D+W) \f$, with n the plain width.
Cost naive_cost(const LatentSizes& sizes, index_t T, index_t S);
/// Latents cached, all S expanded again: \f$ 2SRH(n+W) + 2\,\mathrm{pairs}\,H(D+W) \f$
Cost decompressed_cost(const LatentSizes& sizes, index_t T, index_t S);
/// Latents cached, queries and outputs moved to them: \f$ 2TRH(n+W) + 2\,\mathrm{pairs}\,H(2R+P) \f$
Cost absorbed_cost(const LatentSizes& sizes, index_t T, index_t S);

/// The rule of stage `latent`. Expanding is paid once per stored token and saves 2R+P-D-W per pair, so it pays where
/// many new tokens look at the same old ones: \f$ (S-T)\,R\,(n+W) < \mathrm{pairs}\,(2R+P-D-W) \f$.
/// For DeepSeek's sizes: a first prompt of any length, and from T = 171 on for a long context.
bool expanding_is_cheaper(const LatentSizes& sizes, index_t T, index_t S);

}  // namespace kv
