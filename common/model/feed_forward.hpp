#pragma once
/// @file
/// The second seam: the feed-forward half of a layer. It sees rows and knows nothing of sequences.
#include <memory>

#include "common/tensor/linear.hpp"
#include "common/tensor/tensor.hpp"

namespace kv {

/// Feed-forward half of one layer.
struct FeedForward {
  /// @param x (N,M)  @return (N,M), each row from the same row of x alone
  virtual Tensor<2> forward(const Tensor<2>& x) const = 0;
  virtual ~FeedForward() = default;
};

/// \f$ W_{down}\,(\mathrm{silu}(W_{gate}\,x) \cdot W_{up}\,x) \f$
class DenseFeedForward : public FeedForward {
 public:
  /// @param gate (F,M)  @param up (F,M)  @param down (M,F)
  DenseFeedForward(std::shared_ptr<const Linear> gate, std::shared_ptr<const Linear> up,
                   std::shared_ptr<const Linear> down);
  Tensor<2> forward(const Tensor<2>& x) const override;

 private:
  std::shared_ptr<const Linear> gate_, up_, down_;
};

}  // namespace kv
