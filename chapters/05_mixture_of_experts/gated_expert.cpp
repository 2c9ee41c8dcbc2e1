#include "chapters/05_mixture_of_experts/gated_expert.hpp"

#include "chapters/05_mixture_of_experts/noaux_tc_router.hpp"

namespace kv {

GatedExpert::GatedExpert(std::shared_ptr<const Linear> gate, std::shared_ptr<const FeedForward> expert)
    : gate_(std::move(gate)), expert_(std::move(expert)) {
  const Shape<1> found{gate_->outputs()}, expected{1};
  require_shape("gate of the shared expert (1,M): outputs", found, expected);
}

void weigh(Tensor<2>& y, const Linear& gate, const Tensor<2>& x) {
  const Tensor<2> scores = gate(x);
  const List<float> factors = sigmoid({scores.data(), scores.size()});
  for (index_t n = 0; n < y.shape(0); ++n)
    for (float& value : row(y, n)) value *= factors[n];
}

Tensor<2> GatedExpert::forward(const Tensor<2>& x) const {
  Tensor<2> y = expert_->forward(x);
  weigh(y, *gate_, x);
  return y;
}

}  // namespace kv
