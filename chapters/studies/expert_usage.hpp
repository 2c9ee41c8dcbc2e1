#pragma once
/// @file
/// What a model's experts do with a text: who is chosen, how many a batch needs, and what is lost without one.
#include <functional>
#include <map>

#include "chapters/05_mixture_of_experts/router.hpp"
#include "chapters/decoders.hpp"

namespace kv {

/// The routing of every mixture layer, by layer.
using LayerRoutings = std::map<index_t, Routing>;

/// A text's way through a model.
struct ExpertUsage {
  LayerRoutings routings;
  double loss;  ///< mean negative log-likelihood of each token after the first, in nats
};

/// Runs a text through the model in one piece.  @throws Error when it has fewer than two tokens, or the model no mixture
ExpertUsage expert_usage(const Checkpoint& checkpoint, const std::vector<Token>& tokens);

/// Mean negative log-likelihood, in nats, of tokens 1 ... T-1.
/// @param logits (T,V), row t: what follows token t
double mean_loss(const Tensor<2>& logits, const std::vector<Token>& tokens);

/// How many different experts `batch` tokens need, drawn from a routing at random, mean of many draws: what a decode step
/// of so many sequences has to read.
/// @param batch at most as many as the routing has tokens
double distinct_experts(const Routing& routing, index_t batch);
/// The same for a router that chooses K of E evenly and independently: \f$ E\,(1 - (1 - K/E)^B) \f$.
double even_distinct_experts(index_t experts, index_t chosen, index_t batch);

/// The loss without one expert.
struct Ablation {
  index_t layer, expert;
  double loss;
};

/// Every expert of every mixture layer switched off, one at a time.
/// @param on_each called before each run, with its number and how many there are
std::vector<Ablation> ablate_experts(const Checkpoint& checkpoint, const std::vector<Token>& tokens,
                                     const std::function<void(index_t, index_t)>& on_each = {});

}  // namespace kv
