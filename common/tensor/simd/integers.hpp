#pragma once
/// @file
/// Products of inputs and weights in 8-bit integers.
///
/// A row x of inputs has one scale \f$ s = \max_i |x_i| / L \f$. Its inputs become integers \f$ q_i = x_i / s \f$, the nearest,
/// ties to even, \f$ -L \dots L \f$. Output o, whose weights have the scale \f$ s_o \f$, is
/// \f[ y_o = \Big(\operatorname{f32}\Big(\sum_i w_{o,i}\, q_i\Big)\; s\Big)\; s_o, \f]
/// where the sum is exact and rounded once; the quotients and the products are rounded to f32.
///
/// *int8*: \f$ L = 127 \f$. *int8x2*: \f$ L = 32639 \f$, and \f$ q_i = 256\, h_i + l_i \f$ with both parts in -128 ... 127: two
/// rows of 8-bit integers, whose sums are joined.
///
/// A row whose scale is zero, of zeros or next to them, has outputs of zero. A row with an input that is not finite has no scale:
/// its outputs are NaN.
///
/// A sum of integers is the same in every order, so no instruction and no blocking can change a bit, as long as it fits: of
/// 131,071 products of numbers in -128 ... 127 it stays below 2^31.
#include <cstddef>
#include <cstdint>

namespace kv::simd {

constexpr std::size_t max_integer_inputs = 131071;
constexpr std::size_t quad = 4;            ///< inputs that lie together
constexpr std::size_t max_columns = 14;  ///< of any tile

/// A way to compute sums. A column is a row of 8-bit integers: a part of an input row.
struct IntegerTile {
  std::size_t columns;     ///< that it takes at once
  std::size_t quad_bytes;  ///< of a quad of a column as it has laid it out; and there is one quad more

  /// Lays out columns of whole quads.
  void (*take_columns)(const std::int8_t* numbers, std::size_t stride, std::size_t columns, std::size_t quads, void* out);
  /// sums[column][32 outputs], over all quads of a packed panel. Fetches `lines` lines from `next` on with every quad, or what
  /// follows in memory where few columns go through it faster than it comes.
  void (*multiply)(const void* taken, std::size_t columns, const void* panel, std::size_t quads, std::int32_t* sums,
                   const void* next, std::size_t lines);
};

struct IntegerKernels {
  /// Rounds a row to `parts` columns, the high one first, zeros up to a whole quad. Returns the scale.
  float (*round_row)(const float* x, std::size_t inputs, std::size_t parts, std::int8_t* out, std::size_t part_stride);
  /// y of 32 outputs, as yet without the scales of their weights.
  void (*join_parts)(const std::int32_t* sums, std::size_t parts, std::size_t part_stride, float scale, float* y);
  IntegerTile tile;
};

}  // namespace kv::simd
