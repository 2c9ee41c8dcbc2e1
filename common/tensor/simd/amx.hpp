#pragma once
/// @file
/// The matrix unit of some Intel processors: whether it is there, may be used and does what the formats say.
#include "common/tensor/simd/tiles.hpp"

namespace kv::simd {

/// Null where the compiler does not know the instructions.
const TileKernels* amx_tiles();

/// The processor has them, the system lets this process use them, and 64 sums have the bits of `expected`. Asked once.
bool amx_works(const TileKernels& expected);

}  // namespace kv::simd
