#pragma once
/// @file
/// What linear layers make of their inputs. Every format names its order of sums, or needs none, so a product has the same bits on
/// every instruction set, for any number of rows and any number of threads; two formats differ in their last bits, or more.
#include <string_view>
#include <vector>

#include "common/tensor/dtype.hpp"
#include "common/tensor/tensor.hpp"

namespace kv {

enum class InputFormat {
  f32,         ///< as they are; one chain of FMAs, ascending
  bf16x3,      ///< exactly, as a sum of three numbers in bf16, in the order of tiles (simd/tiles.hpp)
  bf16,        ///< rounded to one number in bf16, in the order of pairs (simd/tiles.hpp)
  bf16_tiles,  ///< rounded to one number in bf16, in the order of tiles
  int8,        ///< rounded to one integer of 8 bits, with a scale for every row; no order (simd/integers.hpp)
  int8x2,      ///< rounded to 16 bits as two integers of 8 bits, likewise
};

/// "bf16-tiles"
std::string_view name(InputFormat format);
std::vector<InputFormat> input_formats();

/// int8 and int8x2.
bool integers(InputFormat inputs);

/// Whether there is such a product. f32 goes with all weights, integers with i8, the others with bf16.
bool goes_with(InputFormat inputs, DType weights);

/// What layers with such weights take their inputs in where `inputs` is in use. With integers that is f32 for all weights but i8:
/// a router's and some others are never rounded (chapters/studies/round_weights.hpp).
/// @throws UsageError, which names `where`, when they do not go together, or a sum of so many integers might not fit
InputFormat format_of_layer(InputFormat inputs, DType weights, index_t input_count, std::string_view where);

/// @throws UsageError
[[noreturn]] void refuse(InputFormat inputs, DType weights, std::string_view where);

/// Whether an input is rounded, and no number of several.
bool rounds(InputFormat inputs);

/// The one in use. Weights are packed in the same way for all.
InputFormat input_format();
/// From now on, in all threads. Not while layers are at work.
void use_input_format(InputFormat format);

}  // namespace kv
