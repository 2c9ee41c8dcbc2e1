#include "common/exp.hpp"

#include "common/simd/instruction_set.hpp"

namespace kv {

void exp(std::span<float> x) { simd::kernels().exp(x.data(), x.size()); }

}  // namespace kv
