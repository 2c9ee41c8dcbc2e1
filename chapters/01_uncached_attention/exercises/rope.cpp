// An exercise, in place of common/tensor/rope.cpp: see exercises.md
// Tests: rope_test
#include "common/tensor/rope.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace kv {

RopeTable Rope::table(std::span<const index_t> positions) const {
  // --- yours ---
  // cos and sin (N,D/2) of position n times frequency i, the product in f32; both times `magnitude`.
  throw std::logic_error("exercise 01 rope: the table of angles is yours to write");
  // --- end ---
}

std::vector<double> rope_frequencies(index_t width, double theta) {
  // --- yours ---
  // width / 2 numbers, from 1 downwards.
  throw std::logic_error("exercise 01 rope: the frequencies are yours to write");
  // --- end ---
}

std::vector<double> llama3_frequencies(std::vector<double> plain, double factor, double low_frequency_factor,
                                       double high_frequency_factor, double original_length) {
  for (double& frequency : plain) {
    const double turns = original_length * frequency / (2.0 * std::numbers::pi);  // within the original length
    const double keep = (turns - low_frequency_factor) / (high_frequency_factor - low_frequency_factor);
    frequency *= std::lerp(1.0 / factor, 1.0, std::clamp(keep, 0.0, 1.0));
  }
  return plain;
}

std::vector<double> yarn_frequencies(std::vector<double> plain, double theta, double factor, double original_length,
                                     double beta_fast, double beta_slow) {
  const double width = 2.0 * static_cast<double>(plain.size());
  const auto pair_that_turns = [&](double times) {
    return width * std::log(original_length / (times * 2.0 * std::numbers::pi)) / (2.0 * std::log(theta));
  };
  const double low = std::max(std::floor(pair_that_turns(beta_fast)), 0.0);
  double high = std::min(std::ceil(pair_that_turns(beta_slow)), width - 1.0);
  if (low == high) high += 0.001;  // the published code's guard against dividing by zero
  for (index_t i = 0; i < plain.size(); ++i) {
    const double stretch = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    plain[i] *= std::lerp(1.0, 1.0 / factor, stretch);
  }
  return plain;
}

double yarn_magnitude(double scale, double m) { return scale <= 1.0 ? 1.0 : 0.1 * m * std::log(scale) + 1.0; }

void rotate_half_split(std::span<float> x, std::span<const float> cos, std::span<const float> sin) {
  // --- yours ---
  // x (D), cos and sin (D/2): turn the pairs (i, i + D/2) in place.
  throw std::logic_error("exercise 01 rope: halves are yours to turn");
  // --- end ---
}

void rotate_interleaved(std::span<float> x, std::span<const float> cos, std::span<const float> sin) {
  // --- yours ---
  // x (D), cos and sin (D/2): turn the pairs (2i, 2i + 1) in place.
  throw std::logic_error("exercise 01 rope: neighbours are yours to turn");
  // --- end ---
}

}  // namespace kv
