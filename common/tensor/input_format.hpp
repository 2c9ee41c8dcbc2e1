#pragma once
/// @file
/// What linear layers make of their inputs. Every format names its order of sums, so a product has the same bits on every
/// instruction set, for any number of rows and any number of threads; two formats differ in their last bits, or more.
#include <string_view>
#include <vector>

#include "common/tensor/dtype.hpp"

namespace kv {

enum class InputFormat {
  f32,         ///< as they are; one chain of FMAs, ascending
  bf16x3,      ///< exactly, as a sum of three numbers in bf16, in the order of tiles (simd/tiles.hpp)
  bf16,        ///< rounded to one number in bf16, in the order of pairs (simd/tiles.hpp)
  bf16_tiles,  ///< rounded to one number in bf16, in the order of tiles
};

/// "bf16-tiles"
std::string_view name(InputFormat format);
std::vector<InputFormat> input_formats();

/// Whether there is such a product. f32 goes with all weights, the others with bf16.
bool goes_with(InputFormat inputs, DType weights);

/// Whether an input is rounded, and no number of several.
bool rounds(InputFormat inputs);

/// The one in use. Weights are packed in the same way for all.
InputFormat input_format();
/// From now on, in all threads. Not while layers are at work.
void use_input_format(InputFormat format);

}  // namespace kv
