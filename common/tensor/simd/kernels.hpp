#pragma once
/// @file
/// The table of inner loops, one for each instruction set. The loops are written once, in kernels.inc, on a 16-lane
/// vector, and compiled with different flags; all tables give equal bits.
///
/// This header and everything the kernels include stay free of xtensor and of inline functions from the standard
/// library: an inline function that was compiled for AVX-512 could be the copy the linker keeps for everybody.
#include <cstddef>
#include <cstdint>

#include "common/tensor/simd/codes.hpp"
#include "common/tensor/simd/integers.hpp"
#include "common/tensor/simd/tiles.hpp"

namespace kv::simd {

/// Outputs that are packed side by side: [panel][input][panel_width].
constexpr std::size_t panel_width = 32;
/// Block scales belong to this many inputs.
constexpr std::size_t scale_block = 128;

/// Neighbouring panels of packed weights in one number format.
/// bf16 is stored in pairs of inputs, [pair][32 outputs][2]: a shift and a mask widen them, and a matrix instruction takes
/// them as they are. Zeros fill up whole blocks of 32 inputs. i8 is stored in fours, [quad][32 outputs][4], likewise.
struct Panels {
  const void* data;
  std::size_t count;
  std::size_t inputs, stored_inputs;
  const float* scales;            ///< e4m3: of panel p and input k at [p * scale_stride + k / scale_block]
  std::size_t scale_stride;
};

/// What depends on the weights' number format.
struct FormatKernels {
  /// y(r, o) = chain over k of x[k * row_count + r] * w(o, k), for all 32 * count outputs.
  /// Streams the weights once. REQUIRES: row_count <= direct_rows
  void (*multiply)(const Panels& weights, const float* x, std::size_t row_count, float* y, std::size_t y_stride);
  /// Inputs first ... first+count-1 of the first panel in f32, [count][32].
  void (*widen)(const Panels& weights, std::size_t first, std::size_t count, float* out);
  /// y(r, o) = chain over k of x[k * row_count + r] * w(o, k) for tile_outputs outputs of one panel, continuing the chain in
  /// y if `resume`. Prefetches `next_step` bytes from `next` on with every k. REQUIRES: row_count <= tile_rows
  /// @param weights the panel's, [count][32]  @param output first of the outputs, a multiple of tile_outputs
  /// Null where widening a block once and using f32's is cheaper.
  void (*multiply_block)(const void* weights, std::size_t output, std::size_t count, const float* x,
                         std::size_t row_count, float* y, std::size_t y_stride, bool resume, const void* next,
                         std::size_t next_step);
};

/// Stored rows that will be read next: what is fetched from memory while others are summed.
struct NextRows {
  const void* data;
  std::size_t bytes, stride;  ///< of each row, and from one to the next
};

/// out[i] = factor * number i of a row whose numbers lie side by side and in order: one rounding.
using WidenRow = void (*)(const void* numbers, std::size_t count, float factor, float* out);
/// out[i] = factor * code i + offset, fused, for codes of 4 bits: code i is in byte i / 2, the even one in the low bits.
using WidenCodes = void (*)(const void* codes, std::size_t count, const float* factors,
                            const float* offsets, float* out);

/// Inputs in bf16, in one order of sums.
struct Bf16Kernels {
  /// A row for multiply_row: [input][parts], and zeros up to a whole block of 32 inputs.
  void (*take_row)(const float* x, std::size_t inputs, std::size_t parts, float* out);
  /// For one row and all 32 * count outputs. Streams weights in bf16 once.
  void (*multiply_row)(const Panels& weights, const float* taken, std::size_t parts, float* y);
  TileKernels many;  ///< the same for many rows
};

struct Kernels {
  std::size_t tile_rows;    ///< rows of x that one tile keeps in registers
  std::size_t tile_outputs; ///< outputs of one tile: all 32 of a panel, or half of them
  std::size_t tile_inputs;  ///< inputs of a block of weights that stays in a cache while all rows use it
  std::size_t direct_rows;  ///< up to here weights are widened inside the tile, without a copy in f32

  FormatKernels f32, bf16, f16, f8_e4m3, i8;
  Bf16Kernels in_tiles, in_pairs;  ///< inputs in bf16, in either order of sums (tiles.hpp)
  IntegerKernels integers;         ///< inputs in integers (integers.hpp)
  CodeKernels codes;               ///< rows of a cache in integers (codes.hpp)

  /// out[k * rows.count + r] = rows[r][k], for k < width. REQUIRES: rows.count <= tile_rows
  void (*interleave)(const Rows& rows, std::size_t width, float* out);

  /// scores[q * scores_stride + s] = queries[q] . rows[s]
  void (*dot_rows)(const Rows& queries, const Rows& rows, std::size_t width, float* scores, std::size_t scores_stride);
  /// out[q * out_stride + d] goes on as a chain over s of weights[q][s] * rows[s][d]. Fetches a next row for every row.
  void (*add_weighted_rows)(const Rows& weights, const Rows& rows, std::size_t width, const NextRows& next, float* out,
                            std::size_t out_stride);

  WidenRow widen_bf16, widen_f16, widen_f8_e4m3, widen_i8;
  WidenCodes widen_u4_shared;  ///< codes 32 j ... 32 j + 31 have factor j and offset j
  WidenCodes widen_u4;         ///< every code has its own

  void (*exp)(float* x, std::size_t count);
  void (*softmax)(float* x, std::size_t count);
  /// x = e^(x - m), m the larger of *maximum and the largest x; *sum and *maximum follow. Returns e^(*maximum before - m).
  float (*softmax_block)(float* x, std::size_t count, float* maximum, float* sum);
  void (*scale)(float* x, std::size_t count, float factor);
  /// out = silu(gate) * up. `out` may be `gate`.
  void (*swiglu)(const float* gate, const float* up, std::size_t count, float* out);
};

extern const Kernels portable_kernels;
extern const Kernels avx2_kernels;
extern const Kernels avx512_kernels;

}  // namespace kv::simd
