/// @file
/// Tiles by AMX: eight registers of 16 rows of 64 bytes each. Two tiles of rows times two of weights are four sums, the most
/// that eight registers hold: tiles 0 to 3 are sums, 4 and 5 rows, 6 and 7 weights.
#include <immintrin.h>

#include "common/tensor/simd/bf16_parts.hpp"
#include "common/tensor/simd/kernels.hpp"

namespace kv::simd {
namespace {

using std::size_t;
using Number = std::uint16_t;

constexpr size_t tile_row = 32;                              // numbers
constexpr size_t weight_block = tile_block * panel_width;  // numbers: 16 pairs of inputs, 32 outputs

/// [block][part][tile of the pair][row][32 inputs]
void take_rows(const Rows& rows, size_t inputs, const TileShape& shape, void* out) {
  const size_t pair_rows = shape.pair_rows();
  take_blocks(rows.data, rows.stride, rows.count, inputs, shape.parts, pair_rows,
              [&](size_t block, size_t row, const Number (*parts)[tile_row]) {
                Number* const to = static_cast<Number*>(out) + block * shape.block_numbers() + row * tile_row;
                for (size_t part = 0; part < shape.parts; ++part)
                  __builtin_memcpy(to + part * pair_rows * tile_row, parts[part], sizeof *parts);
              });
}

struct alignas(64) TileConfig {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t row_bytes[16] = {};
  std::uint8_t rows[16] = {};

  explicit TileConfig(size_t height) {
    for (int t = 0; t < 8; ++t) {
      row_bytes[t] = 64;
      rows[t] = static_cast<std::uint8_t>(t < 6 ? height : tile_height);
    }
  }
};

// A row of a tile of weights is a pair of inputs of 16 outputs, half of what lies in the panel.
constexpr int row_bytes = 64, pair_bytes = 128, sum_bytes = panel_width * sizeof(float);

/// One pair. Its rows pass once for every panel: they are loaded as a stream, so that the weights stay in the first cache.
/// Fetches the packed weights that come next: `lines` with every block.
inline void multiply_pair(const Number* rows, const TileShape& shape, const Number* weights, size_t block_count, float* sums,
                          bool resume, const char* next, size_t lines) {
  const size_t tile = shape.height * tile_row;
  float* const lower = sums + shape.height * panel_width;
  if (resume) {
    _tile_loadd(0, sums, sum_bytes);
    _tile_loadd(1, sums + 16, sum_bytes);
    _tile_loadd(2, lower, sum_bytes);
    _tile_loadd(3, lower + 16, sum_bytes);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (size_t b = 0; b < block_count; ++b, weights += weight_block) {
    for (size_t line = 0; line < lines; ++line, next += 64) _mm_prefetch(next, _MM_HINT_T1);
    _tile_loadd(6, weights, pair_bytes);
    _tile_loadd(7, weights + tile_row, pair_bytes);
    for (size_t part = 0; part < shape.parts; ++part, rows += 2 * tile) {
      _tile_stream_loadd(4, rows, row_bytes);
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      _tile_stream_loadd(5, rows + tile, row_bytes);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, sums, sum_bytes);
  _tile_stored(1, sums + 16, sum_bytes);
  _tile_stored(2, lower, sum_bytes);
  _tile_stored(3, lower + 16, sum_bytes);
}

void multiply_tiles(const void* rows, size_t pair_count, const TileShape& shape, const void* weights, size_t block_count,
                    float* sums, bool resume, const void* next) {
  const TileConfig config(shape.height);
  asm volatile("" : : "r"(&config) : "memory");  // GCC 12 thinks that the next instruction reads 8 bytes
  _tile_loadconfig(&config);
  const auto* from = static_cast<const Number*>(rows);
  const size_t lines = (tile_block + pair_count - 1) / pair_count;  // of the 32 in a block, so that all pairs fetch all
  for (size_t pair = 0; pair < pair_count; ++pair)
    multiply_pair(from + pair * shape.pair_numbers(), shape, static_cast<const Number*>(weights), block_count,
                  sums + pair * shape.pair_rows() * panel_width, resume,
                  static_cast<const char*>(next) + pair * lines * 64 * block_count, lines);
  _tile_release();
}

}  // namespace

extern const TileKernels amx_tile_kernels;
const TileKernels amx_tile_kernels = {sizeof(Number), 256, take_rows, nullptr, multiply_tiles};

}  // namespace kv::simd
