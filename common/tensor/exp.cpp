#include "common/tensor/exp.hpp"

#include "common/tensor/simd/instruction_set.hpp"

namespace kv {

void exp(std::span<float> x) { simd::kernels().exp(x.data(), x.size()); }

}  // namespace kv
