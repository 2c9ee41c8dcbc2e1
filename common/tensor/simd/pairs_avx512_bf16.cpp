/// @file
/// Pairs by `vdpbf16ps`: a pair of inputs times 16 outputs.
#include <immintrin.h>

#include <utility>

#include "common/tensor/simd/bf16_parts.hpp"
#include "common/tensor/simd/kernels.hpp"

namespace kv::simd {
namespace {

using std::size_t;

constexpr size_t half_block = tile_block / 2, pair_bytes = panel_width * 4;
constexpr size_t max_rows = 11;  // a pair of tiles is at most three of these; 22 of 32 registers hold sums

/// [pair of inputs][row]
void take_rows(const Rows& rows, size_t inputs, const TileShape& shape, void* out) {
  const size_t pair_rows = shape.pair_rows();
  take_blocks(rows.data, rows.stride, rows.count, inputs, 1, pair_rows,
              [&](size_t block, size_t row, const std::uint16_t (*parts)[tile_block]) {
                auto* const to = static_cast<std::uint32_t*>(out) + block * half_block * pair_rows + row;
                for (size_t i = 0; i < half_block; ++i) __builtin_memcpy(to + i * pair_rows, parts[0] + 2 * i, 4);
              });
}

/// As _mm512_dpbf16_ps; that one takes vectors of a type that GCC 12 only makes by copying.
inline __m512 add_pair(__m512 sum, __m512 pair, __m512 weights) {
  asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(pair), "v"(weights));
  return sum;
}

/// Rows x 32 outputs, all sums in registers. With every pair of inputs it fetches `lines` lines of the weights that come next.
template <size_t Rows>
void multiply_rows(const std::uint32_t* x, size_t x_stride, const char* weights, size_t pairs, float* sums, bool resume,
                   const char* next, size_t lines) {
  __m512 sum[Rows][2];
#pragma GCC unroll 16
  for (size_t r = 0; r < Rows; ++r)
#pragma GCC unroll 2
    for (size_t v = 0; v < 2; ++v) sum[r][v] = resume ? _mm512_loadu_ps(sums + r * panel_width + 16 * v) : _mm512_setzero_ps();
#pragma GCC unroll 1
  for (size_t k = 0; k < pairs; ++k, x += x_stride, weights += pair_bytes) {
    for (size_t line = 0; line < lines; ++line, next += 64) _mm_prefetch(next, _MM_HINT_T1);
    const __m512 low = _mm512_loadu_ps(weights), high = _mm512_loadu_ps(weights + 64);
#pragma GCC unroll 16
    for (size_t r = 0; r < Rows; ++r) {
      __m512 pair;
      asm("vbroadcastss %1, %0" : "=v"(pair) : "m"(x[r]));  // one load for both, and the compiler cannot make it two
      sum[r][0] = add_pair(sum[r][0], pair, low);
      sum[r][1] = add_pair(sum[r][1], pair, high);
    }
  }
#pragma GCC unroll 16
  for (size_t r = 0; r < Rows; ++r)
#pragma GCC unroll 2
    for (size_t v = 0; v < 2; ++v) _mm512_storeu_ps(sums + r * panel_width + 16 * v, sum[r][v]);
}

using Multiply = decltype(&multiply_rows<1>);

template <size_t... rows>
Multiply for_rows(size_t count, std::index_sequence<rows...>) {
  static constexpr Multiply all[] = {multiply_rows<rows + 1>...};
  return all[count - 1];
}

void multiply_pairs(const void* rows, size_t pair_count, const TileShape& shape, const void* weights, size_t block_count,
                    float* sums, bool resume, const void* next) {
  const size_t pair_rows = shape.pair_rows(), parts = (pair_rows + max_rows - 1) / max_rows, inputs = block_count * half_block;
  const auto* x = static_cast<const std::uint32_t*>(rows);
  const auto* later = static_cast<const char*>(next);
  const size_t lines_left = 2 * inputs, passes = pair_count * parts;
  const size_t lines = (2 + passes - 1) / passes;  // of the two in a pair of inputs, so that all passes fetch all
  size_t fetched = 0;
  for (size_t pair = 0; pair < pair_count; ++pair, x += shape.pair_numbers() / 2, sums += pair_rows * panel_width)
    for (size_t part = 0; part < parts; ++part) {
      const size_t first = pair_rows * part / parts, count = pair_rows * (part + 1) / parts - first;
      const size_t own = fetched < lines_left ? lines : 0;
      for_rows(count, std::make_index_sequence<max_rows>())(x + first, pair_rows, static_cast<const char*>(weights), inputs,
                                                            sums + first * panel_width, resume, later + 64 * fetched, own);
      fetched += own * inputs;
    }
}

}  // namespace

extern const TileKernels bf16_pair_kernels;
const TileKernels bf16_pair_kernels = {sizeof(std::uint16_t), 256, take_rows, nullptr, multiply_pairs};

}  // namespace kv::simd
