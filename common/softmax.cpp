#include "common/softmax.hpp"

#include "common/simd/instruction_set.hpp"

namespace kv {

void softmax(std::span<float> x) { simd::kernels().softmax(x.data(), x.size()); }

}  // namespace kv
