#include "chapters/05_mixture_of_experts/mixture.hpp"

#include "common/parallel.hpp"

namespace kv {
namespace {

/// A token of one expert, and the factor of the expert's output.
struct Visit {
  index_t token;
  float weight;
};

// [sort]
/// The tokens of every expert, ascending: the routing turned around.
std::vector<std::vector<Visit>> by_expert(const Routing& routing, index_t experts) {
  std::vector<std::vector<Visit>> visits(experts);
  for (index_t n = 0; n < routing.size(); ++n)
    for (const auto& [expert, weight] : routing[n]) visits.at(expert).push_back({n, weight});
  return visits;
}
// [sort]

Tensor<2> gather(const Tensor<2>& x, const std::vector<Visit>& visits) {
  Tensor<2> result = empty<2>({visits.size(), x.shape(1)});
  for (index_t i = 0; i < visits.size(); ++i) std::ranges::copy(row(x, visits[i].token), row(result, i).begin());
  return result;
}

// [add_weighted]
/// y += weight * x. Not fused: the product of a factor 0 must be a zero, and that of a factor 1 exact.
void add_weighted(std::span<float> y, float weight, std::span<const float> x) {
  for (index_t m = 0; m < y.size(); ++m) y[m] += weight * x[m];
}
// [add_weighted]

/// Rows of one thread for it to be worth waking it.
index_t row_grain(index_t width) { return 1 + (1 << 15) / std::max<index_t>(1, width); }

void add_shared(Tensor<2>& y, const FeedForward* shared, const Tensor<2>& x) {
  if (!shared) return;
  const Tensor<2> extra = shared->forward(x);
  for (index_t i = 0; i < y.size(); ++i) y.data()[i] += extra.data()[i];
}

/// The factor of an expert for one token: 0 where it was not chosen.
float factor(const Choices& choices, index_t expert) {
  const auto found = std::ranges::find(choices, expert, &Choice::expert);
  return found == choices.end() ? 0.0f : found->weight;
}

const MixtureParts& checked(const MixtureParts& parts) {
  if (parts.gate->outputs() != parts.experts->count())
    throw std::invalid_argument("mixture: the gate has " + std::to_string(parts.gate->outputs()) + " outputs for " +
                                std::to_string(parts.experts->count()) + " experts");
  return parts;
}

}  // namespace

Mixture::Mixture(MixtureParts parts) : parts_(checked(parts)) {}

// [grouped]
Tensor<2> Mixture::forward(const Tensor<2>& x) const {
  const auto& [gate, router, experts, shared] = parts_;
  Tensor<2> y = zeros<2>({x.shape(0), x.shape(1)});
  const auto visits = by_expert(router->route((*gate)(x)), experts->count());
  for (index_t e = 0; e < visits.size(); ++e) {
    if (visits[e].empty()) continue;  // its weights are not even loaded
    const Tensor<2> outputs = experts->expert(e).forward(gather(x, visits[e]));
    parallel_for(visits[e].size(), row_grain(x.shape(1)), [&](index_t first, index_t last) {
      for (index_t i = first; i < last; ++i) add_weighted(row(y, visits[e][i].token), visits[e][i].weight, row(outputs, i));
    });
  }
  add_shared(y, shared.get(), x);
  return y;
}
// [grouped]

DenseMixture::DenseMixture(MixtureParts parts) : parts_(checked(parts)) {}

// [dense]
Tensor<2> DenseMixture::forward(const Tensor<2>& x) const {
  const auto& [gate, router, experts, shared] = parts_;
  Tensor<2> y = zeros<2>({x.shape(0), x.shape(1)});
  const Routing routing = router->route((*gate)(x));
  for (index_t e = 0; e < experts->count(); ++e) {
    const Tensor<2> outputs = experts->expert(e).forward(x);
    for (index_t n = 0; n < x.shape(0); ++n) add_weighted(row(y, n), factor(routing[n], e), row(outputs, n));
  }
  add_shared(y, shared.get(), x);
  return y;
}
// [dense]

}  // namespace kv
