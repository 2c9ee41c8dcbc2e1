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
};
/// @throws std::invalid_argument as make_router()
Router router(const RoutingRule& rule, const float* bias);

/// Of a token the experts are ascending, none twice.
struct Choices {
  int* experts;    ///< (N,K)
  float* weights;  ///< (N,K)
};

/// @param logits (N,E)
void route(const Router& router, const float* logits, int rows, const Choices& choices, cudaStream_t stream);

}  // namespace kv::cuda
