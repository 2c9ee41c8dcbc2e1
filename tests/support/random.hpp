#pragma once
/// @file
/// Seeded inputs: not symmetric, not centred, no two alike, so that swapped axes and wrong signs show.
#include <algorithm>
#include <random>
#include <vector>

#include "common/tensor/tensor.hpp"
#include "common/text/token.hpp"

namespace kv::test {

/// Not symmetric, not centred, no two alike.
inline std::vector<float> random_floats(index_t count, unsigned seed, float low = -1.0f, float high = 1.5f) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<float> value(low, high);
  std::vector<float> floats(count);
  for (float& f : floats) f = value(generator);
  return floats;
}

template <std::size_t N>
Tensor<N> random_tensor(const Shape<N>& shape, unsigned seed, float low = -1.0f, float high = 1.5f) {
  Tensor<N> tensor = empty(shape);
  const std::vector<float> values = random_floats(tensor.size(), seed, low, high);
  std::copy(values.begin(), values.end(), tensor.begin());
  return tensor;
}

/// Token ids, repeats among them.
inline std::vector<Token> random_tokens(index_t count, index_t vocabulary, unsigned seed) {
  std::mt19937 generator(seed);
  std::vector<Token> tokens(count);
  for (Token& token : tokens) token = static_cast<Token>(generator() % vocabulary);
  return tokens;
}

/// Positive numbers that add up to `total`.
inline std::vector<index_t> random_chunks(index_t total, unsigned seed) {
  std::mt19937 generator(seed);
  std::vector<index_t> chunks;
  for (index_t rest = total; rest > 0; rest -= chunks.back()) chunks.push_back(1 + generator() % std::min<index_t>(rest, 7));
  return chunks;
}

}  // namespace kv::test
