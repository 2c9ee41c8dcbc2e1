#pragma once
/// @file
/// A routing turned around: which tokens each expert gets.
#include "chapters/05_mixture_of_experts/router.hpp"

namespace kv {

/// A token of one expert, and the factor of the expert's output.
struct Visit {
  index_t token;
  float weight;
};

/// One expert and the tokens that go to it, ascending.
struct Job {
  index_t expert;
  List<Visit> visits;
};

/// Bounds the memory for what experts make of a long prompt.
constexpr index_t tokens_at_once = 1024;

/// For tokens first ... last-1, a job for every expert that one of them has chosen, ascending.
List<Job> jobs_of(const Routing& routing, index_t first, index_t last);

/// Rows of the visiting tokens.  @param x (N,M)  @return (visits,M)
Tensor<2> gather(const Tensor<2>& x, const List<Visit>& visits);

/// y += weight * x. Not fused: the product of a factor 0 must be a zero, and that of a factor 1 exact.
void add_weighted(std::span<float> y, float weight, std::span<const float> x);

}  // namespace kv
