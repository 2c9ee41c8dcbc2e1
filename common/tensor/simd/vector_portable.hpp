#pragma once
/// @file
/// 16 floats in an array: the operations of vector_avx512.hpp for every processor. The compiler may vectorise the
/// loops; every operation is rounded the same way alone and in a vector, so the bits stay.
#include "common/tensor/simd/kernels.hpp"

namespace kv::simd {
namespace {

constexpr int max_tile_rows = 4;
constexpr int tile_outputs = 16, tile_inputs = 256;
constexpr bool widens_in_tile = false;
constexpr int max_direct_rows = 3;
constexpr int max_tile_vectors = 6;
constexpr int dot_queries = 1;
constexpr int dot_columns(int) { return 4; }
constexpr int dot_cached_floats = 5120;

struct Vector {
  float lanes[16];

  using Part = Vector;
  static constexpr int parts = 1;
  static Part load_part(const float* p, int) { return load(p); }
  Part& part(int) { return *this; }
  static Part fma_part(const Part& a, const Part& b, const Part& c) { return fma(a, b, c); }

  template <class F>
  static Vector each(F lane) {
    Vector result;
    for (int i = 0; i < 16; ++i) result.lanes[i] = lane(i);
    return result;
  }

  static Vector zero() { return all(0.0f); }
  static Vector all(float value) {
    return each([=](int) { return value; });
  }
  static Vector broadcast(const float* p) { return all(*p); }
  static Vector load_once(const float* p) { return load(p); }
  static Vector load(const float* p) {
    return each([=](int i) { return p[i]; });
  }
  /// The first `count` < 16 lanes, zeros behind them.
  static Vector load_first(const float* p, std::size_t count) {
    Vector result = zero();
    for (std::size_t i = 0; i < count; ++i) result.lanes[i] = p[i];
    return result;
  }
  void store(float* p) const { store_first(p, 16); }
  void store_first(float* p, std::size_t count) const {
    for (std::size_t i = 0; i < count; ++i) p[i] = lanes[i];
  }

  friend Vector operator+(const Vector& a, const Vector& b) {
    return each([&](int i) { return a.lanes[i] + b.lanes[i]; });
  }
  friend Vector operator-(const Vector& a, const Vector& b) {
    return each([&](int i) { return a.lanes[i] - b.lanes[i]; });
  }
  friend Vector operator*(const Vector& a, const Vector& b) {
    return each([&](int i) { return a.lanes[i] * b.lanes[i]; });
  }
  friend Vector operator/(const Vector& a, const Vector& b) {
    return each([&](int i) { return a.lanes[i] / b.lanes[i]; });
  }
  friend Vector fma(const Vector& a, const Vector& b, const Vector& c) {
    return each([&](int i) { return __builtin_fmaf(a.lanes[i], b.lanes[i], c.lanes[i]); });
  }
  friend Vector max(const Vector& a, const Vector& b) {
    return each([&](int i) { return a.lanes[i] > b.lanes[i] ? a.lanes[i] : b.lanes[i]; });
  }
  /// a < b ? yes : no
  friend Vector if_less(const Vector& a, const Vector& b, const Vector& yes, const Vector& no) {
    return each([&](int i) { return a.lanes[i] < b.lanes[i] ? yes.lanes[i] : no.lanes[i]; });
  }
  friend Vector if_nan(const Vector& a, const Vector& yes, const Vector& no) {
    return each([&](int i) { return a.lanes[i] != a.lanes[i] ? yes.lanes[i] : no.lanes[i]; });
  }
  /// Adds the lowest bits of `integer` to the exponent of a.
  friend Vector add_to_exponent(const Vector& a, const Vector& integer) {
    return each([&](int i) { return number(bits(a.lanes[i]) + (bits(integer.lanes[i]) << 23)); });
  }
  static std::uint32_t bits(float value) { return __builtin_bit_cast(std::uint32_t, value); }
  static float number(std::uint32_t bits) { return __builtin_bit_cast(float, bits); }

  /// 32 weights in two vectors.
  static void load_bf16(const std::uint16_t* pairs, int part, Vector& low, Vector& high) {
    low = each([=](int i) { return number(std::uint32_t{pairs[2 * i + part]} << 16); });
    high = each([=](int i) { return number(std::uint32_t{pairs[32 + 2 * i + part]} << 16); });
  }
  static void load_bf16_in_order(const std::uint16_t* p, Vector& low, Vector& high) {
    low = each([=](int i) { return number(std::uint32_t{p[i]} << 16); });
    high = each([=](int i) { return number(std::uint32_t{p[i + 16]} << 16); });
  }
  static void load_f16(const std::uint16_t* p, Vector& low, Vector& high) {
    low = each([=](int i) { return widen_f16(p[i]); });
    high = each([=](int i) { return widen_f16(p[i + 16]); });
  }
  /// An f16's bits in their place in an f32 are 2^-112 of the number, denormals included.
  static float widen_f16(std::uint16_t half) {
    const std::uint32_t magnitude = half & 0x7fffu, sign = (half & 0x8000u) << 16;
    if (magnitude >= 0x7c00u) return number(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);  // infinity, NaN
    return number(sign | bits(number(magnitude << 13) * 0x1p112f));
  }
  /// Inputs 0, 1, 2 or 3 of 32 quads, in two vectors.
  static void load_i8(const std::int8_t* quads, int part, Vector& low, Vector& high) {
    low = each([=](int i) { return static_cast<float>(quads[4 * i + part]); });
    high = each([=](int i) { return static_cast<float>(quads[64 + 4 * i + part]); });
  }
  static void load_i8_in_order(const std::int8_t* p, Vector& low, Vector& high) {
    low = each([=](int i) { return static_cast<float>(p[i]); });
    high = each([=](int i) { return static_cast<float>(p[i + 16]); });
  }
  /// 1/256 of the weights, as vector_avx512.hpp has it.
  static void load_e4m3_256th(const std::uint8_t* p, Vector& low, Vector& high) {
    low = each([=](int i) { return widen_e4m3(p[i]); });
    high = each([=](int i) { return widen_e4m3(p[i + 16]); });
  }
  /// The same, and NaN where NaN is stored.
  static void load_e4m3_or_nan_256th(const std::uint8_t* p, Vector& low, Vector& high) {
    const auto widened = [](std::uint8_t byte) { return (byte & 0x7f) == 0x7f ? __builtin_nanf("") : widen_e4m3(byte); };
    low = each([=](int i) { return widened(p[i]); });
    high = each([=](int i) { return widened(p[i + 16]); });
  }
  static float widen_e4m3(std::uint8_t byte) {
    return widen_f16(static_cast<std::uint16_t>((byte & 0x80) << 8 | (byte & 0x7f) << 7));
  }
  /// 32 codes of 4 bits.
  static void load_u4(const std::uint8_t* p, Vector& low, Vector& high) {
    low = each([=](int i) { return code(p, i); });
    high = each([=](int i) { return code(p, i + 16); });
  }
  static float code(const std::uint8_t* p, int i) { return static_cast<float>(p[i / 2] >> 4 * (i % 2) & 15); }

  /// columns[c] = lane c of rows[0], rows[1] ... Only the first Count rows are given, so only as many lanes matter.
  template <int Count>
  static void transpose(const Vector (&rows)[Count], Vector (&columns)[16]) {
    for (int c = 0; c < 16; ++c)
      columns[c] = each([&](int r) { return r < Count ? rows[r].lanes[c] : 0.0f; });
  }

  // [tree]
  /// The fixed tree: lane i + lane i+8, then i+4, i+2, i+1.
  friend float sum(Vector a) {
    for (int half = 8; half > 0; half /= 2)
      for (int i = 0; i < half; ++i) a.lanes[i] += a.lanes[i + half];
    return a.lanes[0];
  }
  // [tree]
  /// out[i] = sum(a[i])
  friend void sums_of_4(const Vector* a, float* out) {
    for (int i = 0; i < 4; ++i) out[i] = sum(a[i]);
  }
};

/// 64 numbers of each of 16 rows: [quad][row][4].
inline void transpose_quads(const std::int8_t* const* rows, std::int8_t* out) {
  for (int r = 0; r < 16; ++r)
    for (int k = 0; k < 16; ++k) __builtin_memcpy(out + 64 * k + 4 * r, rows[r] + 4 * k, 4);
}

constexpr int pair_vectors = 1;  // of pairs in one load of two rows

/// 16 pairs of integers of 16 bits.
struct Pairs {
  std::int16_t first[16], second[16];

  static Pairs broadcast(const std::int16_t* pair) {
    Pairs result;
    for (int i = 0; i < 16; ++i) result.first[i] = pair[0], result.second[i] = pair[1];
    return result;
  }
  /// Of 16 quads the inputs (0, 2) and (1, 3).
  static void load_quads(const std::int8_t* p, Pairs& even, Pairs& odd) {
    for (int i = 0; i < 16; ++i) {
      even.first[i] = p[4 * i], even.second[i] = p[4 * i + 2];
      odd.first[i] = p[4 * i + 1], odd.second[i] = p[4 * i + 3];
    }
  }
  /// Numbers 0 ... 15 of two rows.
  static void load_rows(const std::int8_t* first, const std::int8_t* second, Pairs (&pairs)[pair_vectors]) {
    for (int i = 0; i < 16; ++i) pairs[0].first[i] = first[i], pairs[0].second[i] = second[i];
  }
};

/// 16 integers of 32 bits.
struct Integers {
  std::int32_t lanes[16];

  static Integers zero() { return {}; }
  void store(std::int32_t* p) const {
    for (int i = 0; i < 16; ++i) p[i] = lanes[i];
  }
  Vector to_floats() const {
    return Vector::each([&](int i) { return static_cast<float>(lanes[i]); });
  }
  /// sum + both products of a pair.
  friend Integers add_products(const Pairs& a, const Pairs& b, Integers sum) {
    for (int i = 0; i < 16; ++i) sum.lanes[i] += a.first[i] * b.first[i] + a.second[i] * b.second[i];
    return sum;
  }
  static void put_in_order(Integers (&)[pair_vectors]) {}  // it is
};

inline void prefetch(const void* p) { __builtin_prefetch(p); }
inline void prefetch_far(const void* p) { __builtin_prefetch(p, 0, 2); }

}  // namespace
}  // namespace kv::simd
