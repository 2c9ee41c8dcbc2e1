#pragma once
/// @file
/// A shared expert that every token weighs for itself.
#include "common/model/feed_forward.hpp"

namespace kv {

/// Row n of y times \f$ \sigma(g \cdot x_n) \f$.  @param y as many rows as x
void weigh(Tensor<2>& y, const Linear& gate, const Tensor<2>& x);

/// \f[ y = \sigma(g \cdot x)\, \mathrm{expert}(x) \f]
/// @see Qwen Team 2024, Qwen1.5-MoE: Matching 7B Model Performance with 1/3 Activated Parameters
class GatedExpert : public FeedForward {
 public:
  /// @param gate (1,M)  @throws ShapeError unless it has one output
  GatedExpert(std::shared_ptr<const Linear> gate, std::shared_ptr<const FeedForward> expert);
  Tensor<2> forward(const Tensor<2>& x) const override;

 private:
  std::shared_ptr<const Linear> gate_;
  std::shared_ptr<const FeedForward> expert_;
};

}  // namespace kv
