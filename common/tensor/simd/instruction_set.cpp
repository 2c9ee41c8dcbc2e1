#include "common/tensor/simd/instruction_set.hpp"

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <string>

#include "common/tensor/simd/matrix_instructions.hpp"

namespace kv {
namespace {

bool available(InstructionSet set) {
#ifdef KV_X86_KERNELS
  switch (set) {
    case InstructionSet::portable: return true;
    case InstructionSet::avx2:  // every processor with both also converts f16
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case InstructionSet::avx512:
      return available(InstructionSet::avx2) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    case InstructionSet::avx512_vnni:
      return available(InstructionSet::avx512) &&
             simd::vnni_works(simd::avx512_kernels.integers.tile, simd::avx512_kernels.codes);
    case InstructionSet::avx512_bf16:
      return available(InstructionSet::avx512) && simd::bf16_pairs_work(simd::avx512_kernels.in_pairs.many);
    case InstructionSet::amx: return available(InstructionSet::avx512) && simd::amx_works(simd::avx512_kernels.in_tiles.many);
  }
#endif
  return set == InstructionSet::portable;
}

#ifdef KV_X86_KERNELS
const simd::Kernels& vnni_kernels() {
  static const simd::Kernels kernels = [] {
    simd::Kernels other = simd::avx512_kernels;
    if (available(InstructionSet::avx512_vnni)) {
      other.integers.tile = *simd::vnni();
      other.codes = *simd::vnni_codes();
    }
    return other;
  }();
  return kernels;
}

const simd::Kernels& bf16_kernels() {
  static const simd::Kernels kernels = [] {
    simd::Kernels other = vnni_kernels();
    if (const simd::TileKernels* const pairs = simd::bf16_pairs()) other.in_pairs.many = *pairs;
    return other;
  }();
  return kernels;
}

const simd::Kernels& amx_kernels() {
  static const simd::Kernels kernels = [] {
    simd::Kernels other = vnni_kernels();
    if (const simd::TileKernels* const tiles = simd::amx_tiles()) other.in_tiles.many = *tiles;
    return other;
  }();
  return kernels;
}
#endif

const simd::Kernels& kernels_of([[maybe_unused]] InstructionSet set) {
#ifdef KV_X86_KERNELS
  if (set == InstructionSet::amx) return amx_kernels();
  if (set == InstructionSet::avx512_bf16) return bf16_kernels();
  if (set == InstructionSet::avx512_vnni) return vnni_kernels();
  if (set == InstructionSet::avx512) return simd::avx512_kernels;
  if (set == InstructionSet::avx2) return simd::avx2_kernels;
#endif
  return simd::portable_kernels;
}

struct Choice {
  std::atomic<InstructionSet> set;
  std::atomic<const simd::Kernels*> kernels;

  explicit Choice(InstructionSet first) : set(first), kernels(&kernels_of(first)) {}
};

Choice& choice() {
  static Choice choice(available_instruction_sets().back());
  return choice;
}

}  // namespace

std::string_view name(InstructionSet set) {
  switch (set) {
    case InstructionSet::portable: return "portable";
    case InstructionSet::avx2: return "avx2";
    case InstructionSet::avx512: return "avx512";
    case InstructionSet::avx512_vnni: return "avx512-vnni";
    case InstructionSet::avx512_bf16: return "avx512-bf16";
    case InstructionSet::amx: return "amx";
  }
  throw std::invalid_argument("name: unknown instruction set");
}

std::vector<InstructionSet> available_instruction_sets() {
  std::vector<InstructionSet> sets = {InstructionSet::portable, InstructionSet::avx2, InstructionSet::avx512,
                                      InstructionSet::avx512_vnni, InstructionSet::avx512_bf16, InstructionSet::amx};
  std::erase_if(sets, [](InstructionSet set) { return !available(set); });
  return sets;
}

InstructionSet instruction_set() { return choice().set; }

void use_instruction_set(InstructionSet set) {
  if (!available(set)) throw std::invalid_argument("this processor has no " + std::string(name(set)));
  choice().set = set;
  choice().kernels = &kernels_of(set);
}

const simd::Kernels& simd::kernels() { return *choice().kernels.load(std::memory_order_relaxed); }

}  // namespace kv
