/// @file
/// Sums of integers by `vpdpbusd`: a quad of inputs times 16 outputs. It multiplies unsigned numbers by signed ones. A weight plus
/// 128 is unsigned, and its sign bit the other way round; what is too much, 128 times the sum of the inputs, is taken off where
/// the sum begins. On its way it stays as small as at its end: it is the products so far and -128 times the inputs to come.
#include <immintrin.h>

#include <utility>

#include "common/tensor/simd/kernels.hpp"

namespace kv::simd {
namespace {

using std::size_t;

/// [-128 times the sum, then quads][column]
void take_columns(const std::int8_t* numbers, size_t stride, size_t columns, size_t quads, void* out) {
  auto* const to = static_cast<std::int32_t*>(out);
  for (size_t c = 0; c < columns; ++c) {
    const std::int8_t* const from = numbers + c * stride;
    std::int32_t sum = 0;
    for (size_t i = 0; i < quads * quad; ++i) sum += from[i];
    to[c] = -128 * sum;
    for (size_t k = 0; k < quads; ++k) __builtin_memcpy(to + (k + 1) * columns + c, from + k * quad, quad);
  }
}

inline __m512i broadcast(const std::int32_t* p) {
  __m512i lanes;
  asm("vpbroadcastd %1, %0" : "=v"(lanes) : "m"(*p));  // one load for both, and the compiler cannot make it two
  return lanes;
}

/// Of 32 outputs, in registers.
template <size_t Columns>
struct Sums {
  __m512i sum[Columns][2];

  [[gnu::always_inline]] void add_quad(const std::int32_t* taken, const char* weights) {
    const __m512i signs = _mm512_set1_epi8(-128);
    const __m512i low = _mm512_xor_si512(_mm512_loadu_si512(weights), signs);
    const __m512i high = _mm512_xor_si512(_mm512_loadu_si512(weights + 64), signs);
#pragma GCC unroll 16
    for (size_t c = 0; c < Columns; ++c) {
      const __m512i inputs = broadcast(taken + c);
      sum[c][0] = _mm512_dpbusd_epi32(sum[c][0], low, inputs);
      sum[c][1] = _mm512_dpbusd_epi32(sum[c][1], high, inputs);
    }
  }
};

template <size_t Columns>
void multiply_columns(const std::int32_t* taken, const char* weights, size_t quads, std::int32_t* sums, const char* next, size_t lines) {
  constexpr bool streams = Columns <= 2;
  constexpr size_t quad_bytes = quad * panel_width;  // of weights
  Sums<Columns> of;
#pragma GCC unroll 16
  for (size_t c = 0; c < Columns; ++c) of.sum[c][0] = of.sum[c][1] = broadcast(taken + c);
  taken += Columns;
  size_t k = 0;
  if constexpr (streams) {
    // Few columns wait for memory, which is faster at several places at once; and integers have no order.
    constexpr size_t places = 4, ahead = 1024;  // bytes
    const size_t stretch = quads / places;
#pragma GCC unroll 1
    for (; k < stretch; ++k)
#pragma GCC unroll 4
      for (size_t place = 0; place < places; ++place) {
        const size_t at = place * stretch + k;
        _mm_prefetch(weights + at * quad_bytes + ahead, _MM_HINT_T1);
        _mm_prefetch(weights + at * quad_bytes + ahead + 64, _MM_HINT_T1);
        of.add_quad(taken + at * Columns, weights + at * quad_bytes);
      }
    k = places * stretch;
  }
#pragma GCC unroll 1
  for (; k < quads; ++k) {
    for (size_t line = 0; !streams && line < lines; ++line, next += 64) _mm_prefetch(next, _MM_HINT_T1);
    of.add_quad(taken + k * Columns, weights + k * quad_bytes);
  }
#pragma GCC unroll 16
  for (size_t c = 0; c < Columns; ++c)
#pragma GCC unroll 2
    for (size_t v = 0; v < 2; ++v) _mm512_storeu_si512(sums + c * panel_width + 16 * v, of.sum[c][v]);
}

using Multiply = decltype(&multiply_columns<1>);

template <size_t... columns>
Multiply for_columns(size_t count, std::index_sequence<columns...>) {
  static constexpr Multiply all[] = {multiply_columns<columns + 1>...};
  return all[count - 1];
}

void multiply(const void* taken, size_t columns, const void* panel, size_t quads, std::int32_t* sums, const void* next, size_t lines) {
  for_columns(columns, std::make_index_sequence<max_columns>())(static_cast<const std::int32_t*>(taken), static_cast<const char*>(panel),
                                                                quads, sums, static_cast<const char*>(next), lines);
}

}  // namespace

extern const IntegerTile vnni_tile;
const IntegerTile vnni_tile = {max_columns, quad, take_columns, multiply};

}  // namespace kv::simd
