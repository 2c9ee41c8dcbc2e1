#include "chapters/05_mixture_of_experts/routing_rule.hpp"

#include "chapters/05_mixture_of_experts/noaux_tc_router.hpp"
#include "chapters/05_mixture_of_experts/softmax_routers.hpp"

namespace kv {

void require_published(const RoutingRule& rule) {
  const bool limited = rule.limit.groups != 1 || rule.limit.kept != 1, scaled = rule.scaling != 1.0f;
  bool known = true;
  switch (rule.scores) {
    case RoutingRule::Scores::softmax_of_chosen: known = !limited && !scaled && !rule.normalised; break;
    case RoutingRule::Scores::softmax: known = !rule.normalised || (!limited && !scaled); break;
    case RoutingRule::Scores::sigmoid_with_bias: break;
  }
  const index_t biases = rule.scores == RoutingRule::Scores::sigmoid_with_bias ? rule.experts : 0;
  if (!known || rule.bias.size() != biases)
    throw std::invalid_argument("router: no published model combines scores, groups, normalisation, factor and bias like this");
}

std::shared_ptr<const Router> make_router(const RoutingRule& rule) {
  require_published(rule);
  const auto& [scores, experts, chosen, limit, normalised, scaling, bias] = rule;
  switch (scores) {
    case RoutingRule::Scores::softmax_of_chosen: return std::make_shared<MixtralRouter>(experts, chosen);
    case RoutingRule::Scores::softmax:
      if (normalised) return std::make_shared<Qwen3MoeRouter>(experts, chosen, true);
      if (limit.groups == 1) return std::make_shared<GreedyRouter>(experts, chosen, scaling);
      return std::make_shared<GroupLimitedRouter>(experts, chosen, limit, scaling);
    case RoutingRule::Scores::sigmoid_with_bias:
      return std::make_shared<NoauxTcRouter>(
          bias, NoauxTcRouter::Options{.chosen = chosen, .limit = limit, .normalised = normalised, .scaling = scaling});
  }
  return nullptr;
}

}  // namespace kv
