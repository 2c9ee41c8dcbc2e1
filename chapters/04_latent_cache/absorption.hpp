#pragma once
/// @file
/// The up-projections moved from the keys and values, of which there are many, to the query and the output, of which
/// there is one each.
#include <vector>

#include "chapters/04_latent_cache/latent_sizes.hpp"
#include "common/tensor/linear.hpp"
#include "common/tensor/tensor.hpp"

namespace kv {

/// Per head two small matrices, both slices of kv_b_proj. They are kept apart from their neighbours W_UQ and W_O: merged,
/// W_UQ^T W_UK would have R * query_rank numbers per head instead of (R + query_rank) * plain, in V3 three times as many.
class Absorption {
 public:
  /// @param up (H*(plain+W),R), kv_b_proj: of every head, first W_UK, then W_UV. Kept in its number format, except
  /// fp8 with block scales: heads do not start where blocks do, so those are widened to f32.
  /// @throws ShapeError
  Absorption(const MatrixView& up, const LatentSizes& sizes);

  /// \f$ [\,W_{UK,h}^T q_{t,h}\ ;\ q^R_{t,h}\,] \f$: the question put in terms of latents.
  /// @param queries (N,H,D)  @return (N,H,R+P)
  Tensor<3> absorb(const Tensor<3>& queries) const;

  /// \f$ W_{UV,h}\, m_{t,h} \f$: the answer, out of the latent space.
  /// @param mixed (N,H,R)  @return (N,H,W)
  Tensor<3> lift(const Tensor<3>& mixed) const;

 private:
  LatentSizes sizes_;
  std::vector<Linear> into_latents_;    // of each head, W_UK^T (R,plain)
  std::vector<Linear> out_of_latents_;  // of each head, W_UV (W,R)
};

}  // namespace kv
