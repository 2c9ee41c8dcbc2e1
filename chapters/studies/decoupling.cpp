#include "chapters/studies/decoupling.hpp"

#include <cmath>
#include <random>

#include "common/tensor/rope.hpp"

namespace kv {
namespace {

/// Largest difference, relative to the largest score.
double relative_error(const std::vector<double>& found, const std::vector<double>& right) {
  double difference = 0.0, largest = 0.0;
  for (index_t i = 0; i < right.size(); ++i) {
    difference = std::max(difference, std::abs(found[i] - right[i]));
    largest = std::max(largest, std::abs(right[i]));
  }
  return difference / largest;
}

double product(std::span<const float> a, std::span<const float> b) {
  double sum = 0.0;
  for (index_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

/// y = W x and y = W^T x
std::vector<float> times(const std::vector<float>& W, index_t rows, index_t columns, std::span<const float> x, bool transposed) {
  std::vector<float> y(transposed ? columns : rows);
  for (index_t i = 0; i < rows; ++i)
    for (index_t j = 0; j < columns; ++j)
      (transposed ? y[j] : y[i]) += W[i * columns + j] * x[transposed ? i : j];
  return y;
}

}  // namespace

std::vector<float> normal_floats(index_t count, double deviation, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, static_cast<float>(deviation));
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

DecouplingErrors decoupling_errors(index_t distance) {
  constexpr index_t D = 128, R = 512, keys = 64;
  const Rope rope{[] {
    std::vector<float> frequencies;
    for (const double frequency : rope_frequencies(D, 10000.0)) frequencies.push_back(static_cast<float>(frequency));
    return frequencies;
  }()};
  const std::vector<float> W = normal_floats(D * R, 1.0 / std::sqrt(double{R}), 7), query = normal_floats(D, 1.0, 8),
                           latents = normal_floats(keys * R, 1.0, 9);
  const auto turned = [&](std::vector<float> x, index_t position) {
    const RopeTable table = rope.table(std::array{position});
    rotate_interleaved(x, row(table.cos, 0), row(table.sin, 0));
    return x;
  };
  const std::vector<float> plain = times(W, D, R, query, true), at_8 = times(W, D, R, turned(query, 8), true);
  std::vector<double> right, absorbed, fixed, unrotated;
  for (index_t s = 0; s < keys; ++s) {
    const std::span<const float> latent{latents.data() + s * R, R};
    const std::vector<float> key = times(W, D, R, latent, false);
    right.push_back(product(turned(query, distance), key));  // query at `distance`, key at 0
    absorbed.push_back(product(plain, latent));
    fixed.push_back(product(at_8, latent));
    unrotated.push_back(product(query, key));
  }
  return {relative_error(absorbed, right), relative_error(fixed, right), relative_error(absorbed, unrotated)};
}

}  // namespace kv
