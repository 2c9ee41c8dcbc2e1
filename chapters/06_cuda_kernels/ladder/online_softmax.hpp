#pragma once
/// @file
/// Softmax over scores that come in pieces (Milakov and Gimelshein 2018, arXiv:1805.02867). The weighted sum so far was
/// made with the largest score so far; when a larger one comes, everything made before shrinks by one factor.
#include "common/cuda/device.hpp"

namespace kv::cuda {

struct OnlineSoftmax {
  float largest = -INFINITY;  ///< score so far
  float sum = 0.0f;           ///< of exp(score - largest) so far

  // [renew]
  /// Takes in the largest score of a piece, which must be finite.
  /// @return the factor for the weighted sum so far, which the sum of exponentials has got already
  __device__ float renew(float largest_of_piece) {
    const float before = largest;
    largest = fmaxf(largest, largest_of_piece);
    const float factor = expf(before - largest);  // exp(-inf) = 0 for the first piece
    sum *= factor;
    return factor;
  }
  // [renew]

  __device__ float weight(float score) const { return expf(score - largest); }

  /// What the weighted sum is multiplied by at the end. No tokens: zero, so that the output is.
  __device__ float normalisation() const { return sum > 0.0f ? 1.0f / sum : 0.0f; }
  /// ln of the sum of exp(score). No tokens: -inf.
  __device__ float log_sum_exp() const { return largest + logf(sum); }
};

}  // namespace kv::cuda
