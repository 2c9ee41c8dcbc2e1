#pragma once
/// @file
/// 16 floats in two AVX registers: the operations of vector_avx512.hpp.
#include <immintrin.h>

#include "common/tensor/simd/kernels.hpp"

namespace kv::simd {
namespace {

constexpr int max_tile_rows = 6;     // 12 of 16 registers hold sums, with 1 vector of weights
constexpr int tile_outputs = 16, tile_inputs = 256;  // a block of weights for the first cache: 16 KiB of 32
constexpr bool widens_in_tile = true;                // the units that shift and convert are idle otherwise
constexpr int max_direct_rows = 3;
constexpr int max_tile_vectors = 6;  // rows x vectors of a tile that streams
constexpr int dot_queries = 2;
constexpr int dot_columns(int) { return 3; }  // rows of such a tile
constexpr int dot_cached_floats = 5120;  // queries that stay in the first cache, beside the rows of a tile

struct Vector {
  __m256 low, high;

  /// A register of the vector: sums[q][c] of a dot product need not fit in the registers with whole queries and rows.
  using Part = __m256;
  static constexpr int parts = 2;
  /// One load for all uses: left to itself the compiler loads again in every FMA, and loads become the limit.
  static Part load_part(const float* p, int part) {
    __m256 lanes;
    asm("vmovups %1, %0" : "=x"(lanes) : "m"(*reinterpret_cast<const float(*)[8]>(p + 8 * part)));
    return lanes;
  }
  Part& part(int i) { return i == 0 ? low : high; }
  static Part fma_part(Part a, Part b, Part c) { return _mm256_fmadd_ps(a, b, c); }

  static Vector zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
  static Vector all(float value) { return {_mm256_set1_ps(value), _mm256_set1_ps(value)}; }
  static Vector broadcast(const float* p) {
    const __m256 lanes = _mm256_broadcast_ss(p);
    return {lanes, lanes};
  }
  static Vector load_once(const float* p) { return load(p); }
  static Vector load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  /// The first `count` < 16 lanes, zeros behind them.
  static Vector load_first(const float* p, std::size_t count) {
    return {_mm256_maskload_ps(p, first(count, 0)), _mm256_maskload_ps(p + 8, first(count, 8))};
  }
  void store(float* p) const {
    _mm256_storeu_ps(p, low);
    _mm256_storeu_ps(p + 8, high);
  }
  void store_first(float* p, std::size_t count) const {
    _mm256_maskstore_ps(p, first(count, 0), low);
    _mm256_maskstore_ps(p + 8, first(count, 8), high);
  }
  static __m256i first(std::size_t count, int lane) {
    const __m256i lanes = _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(lane));
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), lanes);
  }

  friend Vector operator+(Vector a, Vector b) { return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)}; }
  friend Vector operator-(Vector a, Vector b) { return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)}; }
  friend Vector operator*(Vector a, Vector b) { return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)}; }
  friend Vector operator/(Vector a, Vector b) { return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)}; }
  friend Vector fma(Vector a, Vector b, Vector c) {
    return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
  }
  friend Vector max(Vector a, Vector b) { return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)}; }
  /// a < b ? yes : no
  friend Vector if_less(Vector a, Vector b, Vector yes, Vector no) {
    return {_mm256_blendv_ps(no.low, yes.low, _mm256_cmp_ps(a.low, b.low, _CMP_LT_OQ)),
            _mm256_blendv_ps(no.high, yes.high, _mm256_cmp_ps(a.high, b.high, _CMP_LT_OQ))};
  }
  friend Vector if_nan(Vector a, Vector yes, Vector no) {
    return {_mm256_blendv_ps(no.low, yes.low, _mm256_cmp_ps(a.low, a.low, _CMP_UNORD_Q)),
            _mm256_blendv_ps(no.high, yes.high, _mm256_cmp_ps(a.high, a.high, _CMP_UNORD_Q))};
  }
  /// Adds the lowest bits of `integer` to the exponent of a.
  friend Vector add_to_exponent(Vector a, Vector integer) {
    return {add_to_exponent(a.low, integer.low), add_to_exponent(a.high, integer.high)};
  }
  static __m256 add_to_exponent(__m256 a, __m256 integer) {
    return _mm256_castsi256_ps(
        _mm256_add_epi32(_mm256_castps_si256(a), _mm256_slli_epi32(_mm256_castps_si256(integer), 23)));
  }

  /// The first or the second inputs of 32 pairs, in two vectors.
  static void load_bf16(const std::uint16_t* pairs, int part, Vector& low, Vector& high) {
    low = {widen_bf16_of_pairs(pairs, part), widen_bf16_of_pairs(pairs + 16, part)};
    high = {widen_bf16_of_pairs(pairs + 32, part), widen_bf16_of_pairs(pairs + 48, part)};
  }
  static __m256 widen_bf16_of_pairs(const std::uint16_t* p, int part) {
    const __m256i pairs = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm256_castsi256_ps(part == 0 ? _mm256_slli_epi32(pairs, 16)
                                         : _mm256_and_si256(pairs, _mm256_set1_epi32(static_cast<int>(0xffff0000))));
  }
  static void load_bf16_in_order(const std::uint16_t* p, Vector& low, Vector& high) {
    low = {widen_bf16(p), widen_bf16(p + 8)};
    high = {widen_bf16(p + 16), widen_bf16(p + 24)};
  }
  static __m256 widen_bf16(const std::uint16_t* p) {
    const __m128i numbers = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(numbers), 16));
  }
  static void load_f16(const std::uint16_t* p, Vector& low, Vector& high) {
    const __m128i* halves = reinterpret_cast<const __m128i*>(p);
    low = {_mm256_cvtph_ps(_mm_loadu_si128(halves)), _mm256_cvtph_ps(_mm_loadu_si128(halves + 1))};
    high = {_mm256_cvtph_ps(_mm_loadu_si128(halves + 2)), _mm256_cvtph_ps(_mm_loadu_si128(halves + 3))};
  }
  /// Inputs 0, 1, 2 or 3 of 32 quads, in two vectors.
  static void load_i8(const std::int8_t* quads, int part, Vector& low, Vector& high) {
    low = {widen_i8_of_quads(quads, part), widen_i8_of_quads(quads + 32, part)};
    high = {widen_i8_of_quads(quads + 64, part), widen_i8_of_quads(quads + 96, part)};
  }
  /// Loaded once for each part: what the compiler kept for the next ones would take registers from a tile's sums.
  static __m256 widen_i8_of_quads(const std::int8_t* p, int part) {
    __m256i quads;
    asm volatile("vmovdqu %1, %0" : "=x"(quads) : "m"(*reinterpret_cast<const std::int8_t(*)[32]>(p)));
    return _mm256_cvtepi32_ps(_mm256_srai_epi32(part == 3 ? quads : _mm256_slli_epi32(quads, 24 - 8 * part), 24));
  }
  static void load_i8_in_order(const std::int8_t* p, Vector& low, Vector& high) {
    low = {widen_i8(p), widen_i8(p + 8)};
    high = {widen_i8(p + 16), widen_i8(p + 24)};
  }
  static __m256 widen_i8(const std::int8_t* p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
  }
  /// 1/256 of the weights, as vector_avx512.hpp has it.
  static void load_e4m3_256th(const std::uint8_t* p, Vector& low, Vector& high) {
    low = widen_e4m3(p);
    high = widen_e4m3(p + 16);
  }
  /// The same, and NaN where NaN is stored.
  static void load_e4m3_or_nan_256th(const std::uint8_t* p, Vector& low, Vector& high) {
    low = widen_f16(with_nan(e4m3_as_f16(p)));
    high = widen_f16(with_nan(e4m3_as_f16(p + 16)));
  }
  static Vector widen_e4m3(const std::uint8_t* p) { return widen_f16(e4m3_as_f16(p)); }
  static __m256i e4m3_as_f16(const std::uint8_t* p) {
    const __m256i extended = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    return _mm256_and_si256(_mm256_slli_epi16(extended, 7), _mm256_set1_epi16(static_cast<short>(0xbfff)));
  }
  static __m256i with_nan(__m256i halves) {
    const __m256i magnitude = _mm256_and_si256(halves, _mm256_set1_epi16(0x7fff));
    return _mm256_blendv_epi8(halves, _mm256_set1_epi16(0x7e00), _mm256_cmpeq_epi16(magnitude, _mm256_set1_epi16(0x7f << 7)));
  }
  static Vector widen_f16(__m256i halves) {
    return {_mm256_cvtph_ps(_mm256_castsi256_si128(halves)), _mm256_cvtph_ps(_mm256_extracti128_si256(halves, 1))};
  }
  /// 32 codes of 4 bits.
  static void load_u4(const std::uint8_t* p, Vector& low, Vector& high) {
    const __m128i pairs = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)), mask = _mm_set1_epi8(15);
    const __m128i even = _mm_and_si128(pairs, mask), odd = _mm_and_si128(_mm_srli_epi16(pairs, 4), mask);
    low = widen_bytes(_mm_unpacklo_epi8(even, odd));
    high = widen_bytes(_mm_unpackhi_epi8(even, odd));
  }
  static Vector widen_bytes(__m128i bytes) {
    return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_unpackhi_epi64(bytes, bytes)))};
  }

  /// columns[c] = lane c of rows[0], rows[1] ... Only the first Count rows are given, so only as many lanes matter.
  template <int Count>
  static void transpose(const Vector (&rows)[Count], Vector (&columns)[16]) {
    static_assert(Count <= 8);
    __m256 low[8], high[8];
#pragma GCC unroll 8
    for (int r = 0; r < 8; ++r) {
      low[r] = r < Count ? rows[r].low : _mm256_setzero_ps();
      high[r] = r < Count ? rows[r].high : _mm256_setzero_ps();
    }
    transpose_8(low, columns);
    transpose_8(high, columns + 8);
  }
  static void transpose_8(const __m256* rows, Vector* columns) {
    __m256 pairs[8], fours[8];
#pragma GCC unroll 4
    for (int r = 0; r < 8; r += 2) {
      pairs[r] = _mm256_unpacklo_ps(rows[r], rows[r + 1]);
      pairs[r + 1] = _mm256_unpackhi_ps(rows[r], rows[r + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {  // i = 0, 1: of the first four rows
      const int r = i / 2 * 4 + i % 2;
      fours[2 * i] = _mm256_shuffle_ps(pairs[r], pairs[r + 2], 0x44);
      fours[2 * i + 1] = _mm256_shuffle_ps(pairs[r], pairs[r + 2], 0xee);
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
      columns[c] = {_mm256_permute2f128_ps(fours[c], fours[4 + c], 0x20), _mm256_setzero_ps()};
      columns[4 + c] = {_mm256_permute2f128_ps(fours[c], fours[4 + c], 0x31), _mm256_setzero_ps()};
    }
  }

  /// The fixed tree: lane i + lane i+8, then i+4, i+2, i+1.
  friend float sum(Vector a) {
    const __m256 eight = _mm256_add_ps(a.low, a.high);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  /// out[i] = sum(a[i]): the same tree, four at a time.
  friend void sums_of_4(const Vector* a, float* out) {
    const __m256 ab = add_halves(_mm256_add_ps(a[0].low, a[0].high), _mm256_add_ps(a[1].low, a[1].high));
    const __m256 cd = add_halves(_mm256_add_ps(a[2].low, a[2].high), _mm256_add_ps(a[3].low, a[3].high));
    const __m256 two = _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));  // a c | b d
    const __m256 one = _mm256_add_ps(two, _mm256_permute_ps(two, 0xb1));
    const __m128 ac = _mm256_castps256_ps128(one), bd = _mm256_extractf128_ps(one, 1);
    const __m128 abcd = _mm_unpacklo_ps(_mm_shuffle_ps(ac, ac, 0x88), _mm_shuffle_ps(bd, bd, 0x88));
    _mm_storeu_ps(out, abcd);
  }
  /// Lanes 0...3: a folded once. Lanes 4...7: b.
  static __m256 add_halves(__m256 a, __m256 b) {
    return _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
  }
};

/// 64 numbers of each of 16 rows: [quad][row][4].
inline void transpose_quads(const std::int8_t* const* rows, std::int8_t* out) {
  for (int half = 0; half < 2; ++half) {
    Vector numbers[8], quads[16];
#pragma GCC unroll 8
    for (int r = 0; r < 8; ++r) numbers[r] = Vector::load(reinterpret_cast<const float*>(rows[8 * half + r]));
    Vector::transpose<8>(numbers, quads);
#pragma GCC unroll 16
    for (int k = 0; k < 16; ++k) _mm256_storeu_ps(reinterpret_cast<float*>(out + 64 * k + 32 * half), quads[k].low);
  }
}

constexpr int pair_vectors = 1;  // of pairs in one load of two rows

/// 16 pairs of integers of 16 bits.
struct Pairs {
  __m256i low, high;

  static Pairs broadcast(const std::int16_t* pair) {
    std::int32_t both;
    __builtin_memcpy(&both, pair, sizeof both);
    const __m256i pairs = _mm256_set1_epi32(both);
    return {pairs, pairs};
  }
  /// Of 16 quads the inputs (0, 2) and (1, 3).
  static void load_quads(const std::int8_t* p, Pairs& even, Pairs& odd) {
    load_8_quads(p, even.low, odd.low);
    load_8_quads(p + 32, even.high, odd.high);
  }
  static void load_8_quads(const std::int8_t* p, __m256i& even, __m256i& odd) {
    const __m256i quads = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    even = _mm256_srai_epi16(_mm256_slli_epi16(quads, 8), 8);
    odd = _mm256_srai_epi16(quads, 8);
  }
  /// Numbers 0 ... 15 of two rows; Integers::put_in_order undoes what happens to their order.
  static void load_rows(const std::int8_t* first, const std::int8_t* second, Pairs (&pairs)[pair_vectors]) {
    const __m256i a = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(first)));
    const __m256i b = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(second)));
    pairs[0] = {_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b)};
  }
};

/// 16 integers of 32 bits.
struct Integers {
  __m256i low, high;

  static Integers zero() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
  void store(std::int32_t* p) const {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), low);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 8), high);
  }
  Vector to_floats() const { return {_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high)}; }
  /// sum + both products of a pair.
  friend Integers add_products(Pairs a, Pairs b, Integers sum) {
    return {_mm256_add_epi32(sum.low, _mm256_madd_epi16(a.low, b.low)), _mm256_add_epi32(sum.high, _mm256_madd_epi16(a.high, b.high))};
  }
  /// From 0-3 8-11, 4-7 12-15.
  static void put_in_order(Integers (&sums)[pair_vectors]) {
    const __m256i low = sums[0].low, high = sums[0].high;
    sums[0] = {_mm256_permute2x128_si256(low, high, 0x20), _mm256_permute2x128_si256(low, high, 0x31)};
  }
};

// As assembly, because GCC moves a builtin prefetch out of its loop into one of its own.
inline void prefetch(const void* p) { asm volatile("prefetcht0 %0" : : "m"(*static_cast<const char*>(p))); }
/// To the second cache, where the first one is too small.
inline void prefetch_far(const void* p) { asm volatile("prefetcht1 %0" : : "m"(*static_cast<const char*>(p))); }

}  // namespace
}  // namespace kv::simd
