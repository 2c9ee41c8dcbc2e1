#pragma once
/// @file
/// Decode problems for the ladder of chapter 6, and the formula in double precision.
#include <vector>

#include "chapters/06_cuda_kernels/ladder/ladder.hpp"

namespace kv::test {

/// How a problem is made. Everything that must not be read is NaN, or a page that does not exist.
struct MlaCase {
  int heads;
  std::vector<int> lengths;
  unsigned seed;
  bool shuffled = true;                    ///< pages in random order among unused ones; else one after the other
  float scale = 0.07216878364870322f;      ///< 192^-0.5
};
cuda::MlaDecodeOnHost make(const MlaCase& c);

/// The problem whose memory traffic the book shows: counted on the CPU runtime, and by a profiler on a GPU.
cuda::MlaDecodeOnHost traffic_problem();
inline constexpr int traffic_heads = 16, traffic_tokens = 128 + 64, traffic_multiprocessors = 2;

/// What the formula gives, and how large the terms were that were added up.
struct MlaOracle {
  std::vector<double> output;   ///< (B,H,512)
  std::vector<double> lse;      ///< (B,H)
  double largest;               ///< |output|
  double largest_terms;         ///< sum over tokens of weight * |value|
};
MlaOracle oracle(const cuda::MlaDecodeOnHost& problem);

/// Outputs and log-sum-exps; NaN equals NaN.
bool same_bits(const cuda::Decoded& a, const cuda::Decoded& b);

}  // namespace kv::test
