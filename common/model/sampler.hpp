#pragma once
/// @file
/// From logits to the next token.
#include <cstdint>
#include <random>

#include "common/text/tokenizer.hpp"

namespace kv {

/// How the next token is drawn. The order is Hugging Face's: temperature, then top-k, then top-p, then min-p.
struct Sampling {
  double temperature = 0.0;  ///< 0: greedy, the most likely token
  index_t top_k = 0;         ///< keep the k most likely; 0: all
  double top_p = 1.0;        ///< keep the most likely whose probabilities reach p
  double min_p = 0.0;        ///< keep those at least so likely as this times the most likely
  std::uint64_t seed = 0;    ///< the same seed draws the same tokens on every machine
};

/// Draws tokens.
class Sampler {
 public:
  /// @throws Error when a number is outside its range
  explicit Sampler(const Sampling& sampling);
  /// @param logits (V); -infinity is never drawn
  /// @throws Error when one is NaN or +infinity, or all are -infinity
  Token next(std::span<const float> logits);

 private:
  Sampling sampling_;
  std::mt19937_64 random_;
};

/// The most likely token; of equals the one with the smallest id.
Token most_likely(std::span<const float> logits);

}  // namespace kv
