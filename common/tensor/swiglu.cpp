#include "common/tensor/swiglu.hpp"


#include "common/tensor/parallel.hpp"
#include "common/tensor/simd/instruction_set.hpp"

namespace kv {

Tensor<2> swiglu(Tensor<2> gate, const Tensor<2>& up) {
  const Shape<2> shape = {gate.shape(0), gate.shape(1)};
  require_shape("swiglu: up (N,F)", up, shape);
  const auto part = [&](index_t first, index_t last) {
    simd::kernels().swiglu(gate.data() + first, up.data() + first, last - first, gate.data() + first);
  };
  parallel_for(gate.size(), 16384, part);
  return gate;
}

}  // namespace kv
