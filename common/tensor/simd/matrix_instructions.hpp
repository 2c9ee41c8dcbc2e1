#pragma once
/// @file
/// Instructions for inputs in bf16 or integers that not every processor has: whether they are there, may be used and do what the
/// formats say.
#include "common/tensor/simd/codes.hpp"
#include "common/tensor/simd/integers.hpp"
#include "common/tensor/simd/tiles.hpp"

namespace kv::simd {

/// Tiles by AMX, pairs by AVX-512's `vdpbf16ps`, integers by its `vpdpbusd`
/// and rows of a cache in integers by its `vpdpwssd`. Null where the compiler does not know the instructions.
const TileKernels* amx_tiles();
const TileKernels* bf16_pairs();
const IntegerTile* vnni();
const CodeKernels* vnni_codes();

/// The processor has them, the system lets this process use them, and 64 sums have the bits of `expected`. Asked once.
bool amx_works(const TileKernels& expected);
bool bf16_pairs_work(const TileKernels& expected);
bool vnni_works(const IntegerTile& expected, const CodeKernels& codes);

}  // namespace kv::simd
