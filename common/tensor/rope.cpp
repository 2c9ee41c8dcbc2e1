#include "common/tensor/rope.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace kv {

// [table]
RopeTable Rope::table(std::span<const index_t> positions) const {
  RopeTable table{empty<2>({positions.size(), frequencies.size()}),
                  empty<2>({positions.size(), frequencies.size()})};
  for (index_t n = 0; n < positions.size(); ++n)
    for (index_t i = 0; i < frequencies.size(); ++i) {
      const float angle = static_cast<float>(positions[n]) * frequencies[i];
      table.cos(n, i) = magnitude * static_cast<float>(std::cos(static_cast<double>(angle)));
      table.sin(n, i) = magnitude * static_cast<float>(std::sin(static_cast<double>(angle)));
    }
  return table;
}
// [table]

// [frequencies]
std::vector<double> rope_frequencies(index_t width, double theta) {
  std::vector<double> result;
  for (index_t i = 0; i < width / 2; ++i)
    result.push_back(std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(width)));
  return result;
}
// [frequencies]

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

// [half_split]
void rotate_half_split(std::span<float> x, std::span<const float> cos, std::span<const float> sin) {
  const index_t half = x.size() / 2;
  for (index_t i = 0; i < half; ++i) {
    const float a = x[i], b = x[i + half];
    x[i] = a * cos[i] - b * sin[i];
    x[i + half] = b * cos[i] + a * sin[i];
  }
}
// [half_split]

void rotate_interleaved(std::span<float> x, std::span<const float> cos, std::span<const float> sin) {
  for (index_t i = 0; i < x.size() / 2; ++i) {
    const float a = x[2 * i], b = x[2 * i + 1];
    x[2 * i] = a * cos[i] - b * sin[i];
    x[2 * i + 1] = b * cos[i] + a * sin[i];
  }
}

}  // namespace kv
