#pragma once
/// @file
/// Who goes where: the K experts of every token, with the factors of their outputs, by the rules of chapter 5. And rows sorted by
/// expert: every visit of a token to one of its experts becomes a row; the rows of an expert lie together, its tokens ascending.
/// Nobody adds with atomics to a sum: the order of every sum is fixed.
#include "chapters/05_mixture_of_experts/routing_rule.hpp"
#include "common/cuda/device.hpp"

namespace kv::cuda {

/// A RoutingRule whose bias is in device memory.
struct Router {
  RoutingRule::Scores scores;
  int experts, chosen, groups, kept;
  bool normalised;
  float scaling;
  const float* bias;  ///< (E), or null: none
  int shared;         ///< experts E, E+1 ... that every token visits besides
  int logits;         ///< of a token: E, or E+1 where the sigmoid of the last is what the shared experts count; else they count 1

  __host__ __device__ int all_experts() const { return experts + shared; }
  __host__ __device__ int all_chosen() const { return chosen + shared; }
};
/// Without a gate for the shared experts.  @throws std::invalid_argument as make_router()
Router router(const RoutingRule& rule, const float* bias, int shared = 0);

/// Of a token the experts are ascending, none twice.
struct Choices {
  int* experts;    ///< (N,K), the shared ones last
  float* weights;  ///< (N,K)
};

/// The routing turned around.
struct Permutation {
  int* offsets;       ///< (E+1), the first row of every expert
  int* active;        ///< (E), experts that have rows, ascending, then -1
  int* token_of_row;  ///< (N*K)
  int* row_of_visit;  ///< (N,K)
};

/// @param logits (N,router.logits)  @param arrived 0, as it is afterwards: blocks that are through
void route(const Router& router, const float* logits, int rows, const Choices& choices, const Permutation& permutation,
           unsigned* arrived, cudaStream_t stream);

}  // namespace kv::cuda
