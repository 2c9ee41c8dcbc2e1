#include "common/tensor/softmax.hpp"

#include "common/tensor/simd/instruction_set.hpp"

namespace kv {

void softmax(std::span<float> x) { simd::kernels().softmax(x.data(), x.size()); }

float RunningSoftmax::next(std::span<float> scores) {
  return simd::kernels().softmax_block(scores.data(), scores.size(), &maximum_, &sum_);
}

}  // namespace kv
