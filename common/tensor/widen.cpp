#include "common/tensor/widen.hpp"

#include <stdexcept>

#include "common/tensor/simd/instruction_set.hpp"

namespace kv {
namespace {

simd::WidenRow kernel(DType type) {
  const simd::Kernels& kernels = simd::kernels();
  switch (type) {
    case DType::bf16: return kernels.widen_bf16;
    case DType::f16: return kernels.widen_f16;
    case DType::f8_e4m3: return kernels.widen_f8_e4m3;
    case DType::i8: return kernels.widen_i8;
    case DType::f32: break;
  }
  throw std::invalid_argument("widen: rows in " + std::string(name(type)));
}

}  // namespace

void widen(DType type, const std::byte* numbers, float factor, std::span<float> out) {
  kernel(type)(numbers, out.size(), factor, out.data());
}

void widen_codes_in_groups(const std::byte* codes, const float* factors, const float* offsets,
                           std::span<float> out) {
  simd::kernels().widen_u4_shared(codes, out.size(), factors, offsets, out.data());
}

void widen_codes(const std::byte* codes, const float* factors, const float* offsets,
                 std::span<float> out) {
  simd::kernels().widen_u4(codes, out.size(), factors, offsets, out.data());
}

}  // namespace kv
