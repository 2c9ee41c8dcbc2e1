#pragma once
/// @file
/// Which instruction set the kernels use. Chosen at the start: the widest that the processor has.
#include <string_view>
#include <vector>

#include "common/tensor/simd/kernels.hpp"

namespace kv {

/// avx512-vnni: avx512, and integers (integers.hpp) by an instruction. avx512-bf16 and amx: pairs or tiles (tiles.hpp) as well.
enum class InstructionSet { portable, avx2, avx512, avx512_vnni, avx512_bf16, amx };

/// "avx512"
std::string_view name(InstructionSet set);
/// What this processor and this build have, narrowest first. All of them give equal bits.
std::vector<InstructionSet> available_instruction_sets();
/// The one in use.
InstructionSet instruction_set();
/// For tests and benchmarks. Not while kernels run in another thread.
/// @throws std::invalid_argument unless it is available
void use_instruction_set(InstructionSet set);

namespace simd {
/// The kernels of the instruction set in use.
const Kernels& kernels();
}  // namespace simd

}  // namespace kv
