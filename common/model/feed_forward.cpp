#include "common/model/feed_forward.hpp"

#include "common/tensor/swiglu.hpp"

namespace kv {

DenseFeedForward::DenseFeedForward(std::shared_ptr<const Linear> gate, std::shared_ptr<const Linear> up,
                                   std::shared_ptr<const Linear> down)
    : gate_(std::move(gate)), up_(std::move(up)), down_(std::move(down)) {}

// [forward]
Tensor<2> DenseFeedForward::forward(const Tensor<2>& x) const {
  return (*down_)(swiglu((*gate_)(x), (*up_)(x)));
}
// [forward]

}  // namespace kv
