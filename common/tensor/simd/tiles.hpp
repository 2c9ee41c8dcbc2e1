#pragma once
/// @file
/// Products of inputs and weights in bf16, in the order of an instruction that is made for them.
///
/// *Tiles*, as `tdpbf16ps` (AMX) adds: per 32 inputs
/// \f[ s \leftarrow s + \Big(\sum_{k\ \text{even}} x_k w_k + \sum_{k\ \text{odd}} x_k w_k\Big), \f]
/// where both sums are chains of FMAs from zero, ascending.
///
/// *Pairs*, as `vdpbf16ps` (AVX-512) adds: one chain of FMAs, the odd one of every pair of inputs before the even one.
///
/// In both, subnormal numbers are zero: inputs, and whatever is rounded. The instruction is one way to compute a sum; ordinary
/// FMAs are another, with equal bits.
/// @see Intel 64 and IA-32 Architectures Software Developer's Manual, TDPBF16PS and VDPBF16PS
#include <cstddef>
#include <cstdint>

namespace kv::simd {

/// Rows at equal distances.
struct Rows {
  const float* data;
  std::size_t stride, count;
};

constexpr std::size_t tile_height = 16;  ///< rows that one instruction takes
constexpr std::size_t tile_block = 32;   ///< inputs that it takes

/// How rows of x are cut up: in pairs of tiles of equal height.
/// An input is `parts` numbers in bf16, the smallest first: 1, rounded to nearest even; or 3, whose sum it is.
struct TileShape {
  std::size_t pairs, height, parts, blocks;  ///< blocks of 32 inputs in a row

  std::size_t pair_rows() const { return 2 * height; }
  /// Numbers of one block of a pair.
  std::size_t block_numbers() const { return parts * pair_rows() * tile_block; }
  std::size_t pair_numbers() const { return blocks * block_numbers(); }
};

/// A way to compute the products of many rows. What it makes of rows and weights is laid out as it likes.
struct TileKernels {
  std::size_t number_bytes;  ///< of a number that it has laid out
  std::size_t inputs;        ///< that it takes of a panel at once: their weights stay in the first cache

  /// Lays out the rows of one pair, zeros for those that are missing.
  void (*take_rows)(const Rows& rows, std::size_t inputs, const TileShape& shape, void* out);
  /// Lays out blocks of a packed panel. Null: weights are taken as they are packed.
  void (*take_weights)(const void* panel, std::size_t blocks, void* out);
  /// sums[pair][row][32 outputs] of `pair_count` pairs, over `block_count` blocks; goes on with the sums if `resume`.
  /// Fetches as many bytes of packed weights from `next` on.
  /// @param rows the first block of the first pair
  void (*multiply)(const void* rows, std::size_t pair_count, const TileShape& shape, const void* weights,
                   std::size_t block_count, float* sums, bool resume, const void* next);
};

}  // namespace kv::simd
