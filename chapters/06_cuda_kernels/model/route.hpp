#pragma once
/// @file
/// Who goes where: the K experts of every token, with the factors of their outputs, by the rules of chapter 5.
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

/// @param logits (N,router.logits)
void route(const Router& router, const float* logits, int rows, const Choices& choices, cudaStream_t stream);

}  // namespace kv::cuda
