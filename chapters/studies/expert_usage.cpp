#include "chapters/studies/expert_usage.hpp"

#include <cmath>
#include <random>
#include <set>

#include "chapters/05_mixture_of_experts/observed_router.hpp"
#include "chapters/models/mixture_config.hpp"
#include "common/files/error.hpp"
#include "common/model/loss.hpp"

namespace kv {
namespace {

/// What to put around a layer's router.
using Wrap = std::function<std::shared_ptr<const Router>(index_t layer, std::shared_ptr<const Router> router)>;

// [wrap]
/// The checkpoint's own feed-forward halves, with something around the routers.
MakeFeedForward with_routers(const Wrap& wrap) {
  return [wrap](const Checkpoint& checkpoint, index_t layer) -> std::shared_ptr<const FeedForward> {
    if (!is_mixture(checkpoint.config(), layer)) return feed_forward(checkpoint, layer);
    MixtureParts parts = mixture_parts(checkpoint, layer);
    parts.router = wrap(layer, parts.router);
    return std::make_shared<Mixture>(parts);
  };
}
// [wrap]

double loss_of(const Checkpoint& checkpoint, const std::vector<Token>& tokens, const Wrap& wrap) {
  Decoder decoder = make_decoder(checkpoint, find_stage("uncached"), {.sequences = 1, .capacity = tokens.size()}, with_routers(wrap));
  return mean_loss(decoder.logits(0, tokens), tokens);
}

}  // namespace

ExpertUsage expert_usage(const Checkpoint& checkpoint, const std::vector<Token>& tokens) {
  ExpertUsage usage{};
  usage.loss = loss_of(checkpoint, tokens, [&](index_t layer, std::shared_ptr<const Router> router) {
    return std::make_shared<ObservedRouter>(router, [&usage, layer](const Routing& routing) { usage.routings[layer] = routing; });
  });
  if (usage.routings.empty()) throw Error(checkpoint.directory().string() + ": this model has no mixture of experts");
  return usage;
}

double mean_loss(const Tensor<2>& logits, const std::vector<Token>& tokens) {
  if (tokens.size() < 2) throw Error("a loss needs at least two tokens: the text is too short");
  double total = 0.0;
  for (index_t t = 0; t + 1 < tokens.size(); ++t) total += negative_log_likelihood(row(logits, t), tokens[t + 1]);
  return total / static_cast<double>(tokens.size() - 1);
}

// [distinct]
double distinct_experts(const Routing& routing, index_t batch) {
  constexpr index_t draws = 200;
  std::mt19937 generator(1);
  std::vector<index_t> tokens(routing.size());
  for (index_t t = 0; t < tokens.size(); ++t) tokens[t] = t;
  double total = 0.0;
  for (index_t draw = 0; draw < draws; ++draw) {
    std::set<index_t> experts;
    for (index_t b = 0; b < batch; ++b) {  // without putting back
      std::swap(tokens.at(b), tokens[b + generator() % (tokens.size() - b)]);
      for (const Choice& choice : routing[tokens[b]]) experts.insert(choice.expert);
    }
    total += static_cast<double>(experts.size());
  }
  return total / draws;
}

double even_distinct_experts(index_t experts, index_t chosen, index_t batch) {
  const double E = static_cast<double>(experts), K = static_cast<double>(chosen);
  return E * (1.0 - std::pow(1.0 - K / E, static_cast<double>(batch)));
}
// [distinct]

// [ablate]
std::vector<Ablation> ablate_experts(const Checkpoint& checkpoint, const std::vector<Token>& tokens,
                                     const std::function<void(index_t, index_t)>& on_each) {
  const index_t layers = model_sizes(checkpoint.config()).layers;
  std::vector<Ablation> ablations;
  for (index_t layer = 0; layer < layers; ++layer)
    if (is_mixture(checkpoint.config(), layer))
      for (index_t e = 0; e < mixture_sizes(checkpoint.config()).experts; ++e)
        ablations.push_back({layer, e, 0.0});

  for (Ablation& ablation : ablations) {
    if (on_each) on_each(static_cast<index_t>(&ablation - ablations.data()), ablations.size());
    ablation.loss =
        loss_of(checkpoint, tokens, [&](index_t layer, std::shared_ptr<const Router> router) {
          return layer == ablation.layer ? std::make_shared<AblatedRouter>(router, ablation.expert)
                                         : router;
        });
  }
  return ablations;
}
// [ablate]

}  // namespace kv
