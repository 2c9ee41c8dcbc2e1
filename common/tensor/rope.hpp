#pragma once
/// @file
/// Rotary position embedding. Pair i of a head is turned by the angle position * frequency_i, so that the product of a
/// query and a key depends on the distance of their positions alone.
/// @see Su et al. 2021, arXiv:2104.09864
#include <vector>

#include "common/tensor/tensor.hpp"

namespace kv {

/// cos and sin of every position's angles.
struct RopeTable {
  Tensor<2> cos, sin;  // (N, D/2)
};

/// Frequencies, fixed when the model is loaded.
struct Rope {
  std::vector<float> frequencies;  ///< radians per position, one for each pair
  float magnitude = 1.0f;          ///< factor on cos and sin (YaRN)

  /// Angles are products of two f32 numbers, as in the programs that trained the checkpoints: at position 100,000 that
  /// rounding is worth 0.004 radians, so a more exact product would be further from what the weights have seen.
  RopeTable table(std::span<const index_t> positions) const;
};

/// \f$ \theta^{-2i/D},\ i = 0 \dots D/2-1 \f$
std::vector<double> rope_frequencies(index_t width, double theta);

/// Llama 3's bands: short wavelengths stay, long ones are divided by `factor`, between them a linear ramp.
/// @see Grattafiori et al. 2024, arXiv:2407.21783
std::vector<double> llama3_frequencies(std::vector<double> plain, double factor, double low_frequency_factor,
                                       double high_frequency_factor, double original_length);

/// YaRN: pairs that turn often within the original length stay, slow ones are divided by `factor`, between them a ramp.
/// @see Peng et al. 2023, arXiv:2309.00071
std::vector<double> yarn_frequencies(std::vector<double> plain, double theta, double factor, double original_length,
                                     double beta_fast, double beta_slow);

/// \f$ 0.1\,m \ln s + 1 \f$ for s > 1, else 1
double yarn_magnitude(double scale, double m);

/// Turns pairs (i, i + D/2) of one head: Llama, Qwen, Mixtral.  @param x (D)  @param cos (D/2)  @param sin (D/2)
void rotate_half_split(std::span<float> x, std::span<const float> cos, std::span<const float> sin);

/// Turns pairs (2i, 2i + 1) of one head: DeepSeek.
void rotate_interleaved(std::span<float> x, std::span<const float> cos, std::span<const float> sin);

}  // namespace kv
