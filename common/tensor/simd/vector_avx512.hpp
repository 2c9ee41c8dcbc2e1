#pragma once
/// @file
/// 16 floats in one AVX-512 register. vector_avx2.hpp and vector_portable.hpp define the same operations, lane by lane
/// the same bits.
#include <immintrin.h>

#include "common/tensor/simd/kernels.hpp"

namespace kv::simd {
namespace {

constexpr int max_tile_rows = 14;     // 28 of 32 registers hold sums, with 2 vectors of weights
constexpr int tile_outputs = 32, tile_inputs = 1024;  // a block of weights for the second cache
constexpr bool widens_in_tile = false;                // shifts would take turns with multiplications
constexpr int max_direct_rows = 14;
constexpr int max_tile_vectors = 24;  // rows x vectors of a tile that streams
constexpr int dot_queries = 8;
constexpr int dot_columns(int queries) { return queries > 5 ? 3 : 4; }  // rows of a tile: its sums stay in registers
constexpr int dot_cached_floats = 6144;  // queries that stay in the first cache, beside the rows of a tile

struct Vector {
  __m512 lanes;

  /// A vector is one register. (vector_avx2.hpp has two.)
  using Part = Vector;
  static constexpr int parts = 1;
  static Part load_part(const float* p, int) { return load_once(p); }
  Part& part(int) { return *this; }
  static Part fma_part(Part a, Part b, Part c) { return fma(a, b, c); }

  static Vector zero() { return {_mm512_setzero_ps()}; }
  static Vector all(float value) { return {_mm512_set1_ps(value)}; }
  /// One load for all uses: left to itself the compiler loads again in every FMA, and loads become the limit.
  static Vector broadcast(const float* p) {
    __m512 lanes;
    asm("vbroadcastss %1, %0" : "=v"(lanes) : "m"(*p));
    return {lanes};
  }
  static Vector load_once(const float* p) {
    __m512 lanes;
    asm("vmovups %1, %0" : "=v"(lanes) : "m"(*reinterpret_cast<const float(*)[16]>(p)));
    return {lanes};
  }
  static Vector load(const float* p) { return {_mm512_loadu_ps(p)}; }
  /// The first `count` < 16 lanes, zeros behind them.
  static Vector load_first(const float* p, std::size_t count) { return {_mm512_maskz_loadu_ps(first(count), p)}; }
  void store(float* p) const { _mm512_storeu_ps(p, lanes); }
  void store_first(float* p, std::size_t count) const { _mm512_mask_storeu_ps(p, first(count), lanes); }
  static __mmask16 first(std::size_t count) { return static_cast<__mmask16>((1u << count) - 1); }

  friend Vector operator+(Vector a, Vector b) { return {_mm512_add_ps(a.lanes, b.lanes)}; }
  friend Vector operator-(Vector a, Vector b) { return {_mm512_sub_ps(a.lanes, b.lanes)}; }
  friend Vector operator*(Vector a, Vector b) { return {_mm512_mul_ps(a.lanes, b.lanes)}; }
  friend Vector operator/(Vector a, Vector b) { return {_mm512_div_ps(a.lanes, b.lanes)}; }
  friend Vector fma(Vector a, Vector b, Vector c) { return {_mm512_fmadd_ps(a.lanes, b.lanes, c.lanes)}; }
  friend Vector max(Vector a, Vector b) { return {_mm512_max_ps(a.lanes, b.lanes)}; }
  /// a < b ? yes : no
  friend Vector if_less(Vector a, Vector b, Vector yes, Vector no) {
    return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.lanes, b.lanes, _CMP_LT_OQ), no.lanes, yes.lanes)};
  }
  friend Vector if_nan(Vector a, Vector yes, Vector no) {
    return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.lanes, a.lanes, _CMP_UNORD_Q), no.lanes, yes.lanes)};
  }
  /// Adds the lowest bits of `integer` to the exponent of a.
  friend Vector add_to_exponent(Vector a, Vector integer) {
    return {_mm512_castsi512_ps(
        _mm512_add_epi32(_mm512_castps_si512(a.lanes), _mm512_slli_epi32(_mm512_castps_si512(integer.lanes), 23)))};
  }

  /// The first or the second inputs of 32 pairs, in two vectors.
  static void load_bf16(const std::uint16_t* pairs, int part, Vector& low, Vector& high) {
    low.lanes = widen_bf16_of_pairs(pairs, part);
    high.lanes = widen_bf16_of_pairs(pairs + 32, part);
  }
  static __m512 widen_bf16_of_pairs(const std::uint16_t* p, int part) {
    const __m512i pairs = _mm512_loadu_si512(p);
    return _mm512_castsi512_ps(part == 0 ? _mm512_slli_epi32(pairs, 16)
                                         : _mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xffff0000))));
  }
  static void load_bf16_in_order(const std::uint16_t* p, Vector& low, Vector& high) {
    low.lanes = widen_bf16(p);
    high.lanes = widen_bf16(p + 16);
  }
  static __m512 widen_bf16(const std::uint16_t* p) {
    const __m256i numbers = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(numbers), 16));
  }
  static void load_f16(const std::uint16_t* p, Vector& low, Vector& high) {
    low.lanes = _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    high.lanes = _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 16)));
  }
  /// Inputs 0, 1, 2 or 3 of 32 quads, in two vectors.
  static void load_i8(const std::int8_t* quads, int part, Vector& low, Vector& high) {
    low.lanes = widen_i8_of_quads(quads, part);
    high.lanes = widen_i8_of_quads(quads + 64, part);
  }
  /// A byte in the fraction of 2^23, or of 2^15 one byte higher, with its sign bit the other way round, is a number that is 128 too
  /// large: one subtraction where a conversion would want two shifts.
  static __m512 widen_i8_of_quads(const std::int8_t* p, int part) {
    const __m512i quads = _mm512_loadu_si512(p), in_place = part < 2 ? quads : _mm512_srli_epi32(quads, 16);
    const __m512i byte = _mm512_set1_epi32(part % 2 == 0 ? 0xff : 0xff00);
    const __m512 zero = _mm512_set1_ps((part % 2 == 0 ? 0x1p23f : 0x1p15f) + 128.0f);
    constexpr int flip = 0x78;  // zero ^ (byte & in_place)
    return _mm512_sub_ps(_mm512_castsi512_ps(_mm512_ternarylogic_epi32(_mm512_castps_si512(zero), byte, in_place, flip)), zero);
  }
  static void load_i8_in_order(const std::int8_t* p, Vector& low, Vector& high) {
    low.lanes = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
    high.lanes = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 16))));
  }
  /// 1/256 of the weights: the fields of an e4m3 in the places of an f16's are 2^8 too small, denormals included.
  /// NaN has no place there and comes out as a number.
  static void load_e4m3_256th(const std::uint8_t* p, Vector& low, Vector& high) { widen_f16(e4m3_as_f16(p), low, high); }
  /// The same, and NaN where NaN is stored.
  static void load_e4m3_or_nan_256th(const std::uint8_t* p, Vector& low, Vector& high) {
    const __m512i halves = e4m3_as_f16(p), magnitude = _mm512_and_si512(halves, _mm512_set1_epi16(0x7fff));
    const __mmask32 is_nan = _mm512_cmpeq_epi16_mask(magnitude, _mm512_set1_epi16(0x7f << 7));
    widen_f16(_mm512_mask_mov_epi16(halves, is_nan, _mm512_set1_epi16(0x7e00)), low, high);
  }
  static __m512i e4m3_as_f16(const std::uint8_t* p) {
    const __m512i extended = _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    return _mm512_and_si512(_mm512_slli_epi16(extended, 7), _mm512_set1_epi16(static_cast<short>(0xbfff)));
  }
  static void widen_f16(__m512i halves, Vector& low, Vector& high) {
    low.lanes = _mm512_cvtph_ps(_mm512_castsi512_si256(halves));
    high.lanes = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(halves, 1));
  }
  /// 32 codes of 4 bits.
  static void load_u4(const std::uint8_t* p, Vector& low, Vector& high) {
    const __m128i pairs = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)), mask = _mm_set1_epi8(15);
    const __m128i even = _mm_and_si128(pairs, mask), odd = _mm_and_si128(_mm_srli_epi16(pairs, 4), mask);
    low.lanes = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_unpacklo_epi8(even, odd)));
    high.lanes = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_unpackhi_epi8(even, odd)));
  }

  /// columns[c] = lane c of rows[0], rows[1] ... Only the first Count rows are given, so only as many lanes matter.
  template <int Count>
  static void transpose(const Vector (&rows)[Count], Vector (&columns)[16]) {
    const auto row = [&](int r) { return r < Count ? rows[r].lanes : _mm512_setzero_ps(); };
    __m512 pairs[16], fours[16];  // fours[4 i + c]: of rows 4 i ... 4 i + 3, columns c, c + 4, c + 8, c + 12
#pragma GCC unroll 8
    for (int r = 0; r < 16; r += 2) {
      pairs[r] = _mm512_unpacklo_ps(row(r), row(r + 1));
      pairs[r + 1] = _mm512_unpackhi_ps(row(r), row(r + 1));
    }
#pragma GCC unroll 8
    for (int r = 0; r < 16; r += 4)
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        const __m512d low = _mm512_castps_pd(pairs[r + half]), high = _mm512_castps_pd(pairs[r + half + 2]);
        fours[r + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
        fours[r + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
      }
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
      const __m512 even_low = _mm512_shuffle_f32x4(fours[c], fours[4 + c], 0x88);
      const __m512 odd_low = _mm512_shuffle_f32x4(fours[c], fours[4 + c], 0xdd);
      const __m512 even_high = _mm512_shuffle_f32x4(fours[8 + c], fours[12 + c], 0x88);
      const __m512 odd_high = _mm512_shuffle_f32x4(fours[8 + c], fours[12 + c], 0xdd);
      columns[c].lanes = _mm512_shuffle_f32x4(even_low, even_high, 0x88);
      columns[4 + c].lanes = _mm512_shuffle_f32x4(odd_low, odd_high, 0x88);
      columns[8 + c].lanes = _mm512_shuffle_f32x4(even_low, even_high, 0xdd);
      columns[12 + c].lanes = _mm512_shuffle_f32x4(odd_low, odd_high, 0xdd);
    }
  }

  /// The fixed tree: lane i + lane i+8, then i+4, i+2, i+1.
  friend float sum(Vector a) {
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(a.lanes), _mm512_extractf32x8_ps(a.lanes, 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  /// out[i] = sum(a[i]): the same tree, four at a time.
  friend void sums_of_4(const Vector* a, float* out) {
    const __m512 ab = add_halves(a[0].lanes, a[1].lanes), cd = add_halves(a[2].lanes, a[3].lanes);
    const __m512 abcd = _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
    const __m512 two = _mm512_add_ps(abcd, _mm512_permute_ps(abcd, 0x4e));
    const __m512 one = _mm512_add_ps(two, _mm512_permute_ps(two, 0xb1));
    _mm_storeu_ps(out, _mm512_castps512_ps128(_mm512_maskz_compress_ps(0x1111, one)));
  }
  /// Lanes 0...7: a folded once. Lanes 8...15: b.
  static __m512 add_halves(__m512 a, __m512 b) {
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
  }
};

/// 64 numbers of each of 16 rows: [quad][row][4].
inline void transpose_quads(const std::int8_t* const* rows, std::int8_t* out) {
  Vector numbers[16], quads[16];
#pragma GCC unroll 16
  for (int r = 0; r < 16; ++r) numbers[r] = Vector::load(reinterpret_cast<const float*>(rows[r]));
  Vector::transpose<16>(numbers, quads);
#pragma GCC unroll 16
  for (int k = 0; k < 16; ++k) quads[k].store(reinterpret_cast<float*>(out + 64 * k));
}

constexpr int pair_vectors = 2;  // of pairs in one load of two rows

/// 16 pairs of integers of 16 bits.
struct Pairs {
  __m512i lanes;

  static Pairs broadcast(const std::int16_t* pair) {
    std::int32_t both;
    __builtin_memcpy(&both, pair, sizeof both);
    return {_mm512_set1_epi32(both)};
  }
  /// Of 16 quads the inputs (0, 2) and (1, 3).
  static void load_quads(const std::int8_t* p, Pairs& even, Pairs& odd) {
    const __m512i quads = _mm512_loadu_si512(p);
    even.lanes = _mm512_srai_epi16(_mm512_slli_epi16(quads, 8), 8);
    odd.lanes = _mm512_srai_epi16(quads, 8);
  }
  /// Numbers 0 ... 31 of two rows; Integers::put_in_order undoes what happens to their order.
  static void load_rows(const std::int8_t* first, const std::int8_t* second, Pairs (&pairs)[pair_vectors]) {
    const __m512i a = _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(first)));
    const __m512i b = _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(second)));
    pairs[0].lanes = _mm512_unpacklo_epi16(a, b);
    pairs[1].lanes = _mm512_unpackhi_epi16(a, b);
  }
};

/// 16 integers of 32 bits.
struct Integers {
  __m512i lanes;

  static Integers zero() { return {_mm512_setzero_si512()}; }
  void store(std::int32_t* p) const { _mm512_storeu_si512(p, lanes); }
  Vector to_floats() const { return {_mm512_cvtepi32_ps(lanes)}; }
  /// sum + both products of a pair.
  friend Integers add_products(Pairs a, Pairs b, Integers sum) {
#ifdef __AVX512VNNI__
    return {_mm512_dpwssd_epi32(sum.lanes, a.lanes, b.lanes)};
#else
    return {_mm512_add_epi32(sum.lanes, _mm512_madd_epi16(a.lanes, b.lanes))};
#endif
  }
  /// From 0-3 8-11 16-19 24-27, 4-7 12-15 20-23 28-31.
  static void put_in_order(Integers (&sums)[pair_vectors]) {
    const __m512i low = sums[0].lanes, high = sums[1].lanes;
    const __m512i first = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), last = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    sums[0].lanes = _mm512_permutex2var_epi64(low, first, high);
    sums[1].lanes = _mm512_permutex2var_epi64(low, last, high);
  }
};

// As assembly, because GCC moves a builtin prefetch out of its loop into one of its own.
inline void prefetch(const void* p) { asm volatile("prefetcht0 %0" : : "m"(*static_cast<const char*>(p))); }
/// To the second cache, where the first one is too small.
inline void prefetch_far(const void* p) { asm volatile("prefetcht1 %0" : : "m"(*static_cast<const char*>(p))); }

}  // namespace
}  // namespace kv::simd
