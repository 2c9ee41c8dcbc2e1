// Every pattern of every small number format against the definition of the format, in double.
#include "common/tensor/dtype.hpp"

#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "common/tensor/widen.hpp"

#include "tests/support/catch.hpp"
#include "tests/support/instruction_sets.hpp"

using namespace kv;

namespace {

/// The number with these fields: sign, exponent and mantissa of the given widths, IEEE style.
double number(unsigned bits, int exponent_bits, int mantissa_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = static_cast<int>(bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
  const double mantissa = (bits & ((1u << mantissa_bits) - 1)) * std::ldexp(1.0, -mantissa_bits);
  const double magnitude = exponent == 0 ? std::ldexp(mantissa, 1 - bias) : std::ldexp(1 + mantissa, exponent - bias);
  return bits >> (exponent_bits + mantissa_bits) & 1 ? -magnitude : magnitude;
}

/// The same, where the highest exponent means infinity or NaN.
double ieee(unsigned bits, int exponent_bits, int mantissa_bits) {
  const unsigned exponent = (1u << exponent_bits) - 1;
  if ((bits >> mantissa_bits & exponent) != exponent) return number(bits, exponent_bits, mantissa_bits);
  if (bits & ((1u << mantissa_bits) - 1)) return std::numeric_limits<double>::quiet_NaN();
  return bits >> (exponent_bits + mantissa_bits) & 1 ? -INFINITY : INFINITY;
}

bool equal(float found, double expected) {
  if (std::isnan(expected)) return std::isnan(found);
  return found == expected && std::signbit(found) == std::signbit(expected);
}

/// The neighbours of `value` in a format, through its widening function; to_xxx must pick the nearer, or the even one.
template <class Widen, class Narrow>
void check_rounding(Widen widen, Narrow narrow, std::uint16_t largest) {
  for (unsigned bits = 0; bits < largest; ++bits) {
    const auto low = static_cast<std::uint16_t>(bits), high = static_cast<std::uint16_t>(bits + 1);
    const double a = widen(low), b = widen(high), middle = (a + b) / 2;
    const float tie = static_cast<float>(middle);
    if (tie != middle) continue;  // below f32's own denormals
    const std::uint16_t even = bits % 2 == 0 ? low : high;
    if (narrow(static_cast<float>(a)) != low || narrow(tie) != even ||
        narrow(std::nextafter(tie, 0.0f)) != low || narrow(std::nextafter(tie, INFINITY)) != high ||
        narrow(-tie) != (even | 0x8000))
      FAIL("rounding between " << a << " and " << b);
  }
}

}  // namespace

TEST_CASE("bf16, f16 and e4m3 are widened exactly", "[dtype]") {
  for (unsigned bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    if (!equal(from_bf16(half), ieee(bits, 8, 7))) FAIL("bf16 " << bits << " is " << from_bf16(half));
    if (!equal(from_f16(half), ieee(bits, 5, 10))) FAIL("f16 " << bits << " is " << from_f16(half));
  }
  for (unsigned bits = 0; bits < 256; ++bits) {
    const double expected = (bits & 0x7f) == 0x7f ? std::nan("") : number(bits, 4, 3);
    if (!equal(from_f8_e4m3(static_cast<std::uint8_t>(bits)), expected)) FAIL("e4m3 " << bits);
  }
  CHECK(from_f8_e4m3(0x7e) == 448.0f);
  CHECK(from_f16(0x0001) == 0x1p-24f);
}

TEST_CASE("rows are widened with one rounding, every pattern, NaN too, on every instruction set", "[dtype]") {
  const float factor = GENERATE(1.0f, 0.37f, -3.3f);
  const auto [type, patterns] = GENERATE(table<DType, index_t>(
      {{DType::bf16, 65536}, {DType::f16, 65536}, {DType::f8_e4m3, 256}, {DType::i8, 256}}));
  std::vector<std::uint16_t> halves(patterns);
  std::iota(halves.begin(), halves.end(), std::uint16_t{0});
  std::vector<std::byte> numbers(patterns * element_size(type));
  for (index_t i = 0; i < patterns; ++i) std::memcpy(&numbers[i * element_size(type)], &halves[i], element_size(type));
  const auto expected = [&](index_t i) {
    const double number = type == DType::bf16  ? from_bf16(halves[i])
                          : type == DType::f16 ? from_f16(halves[i])
                          : type == DType::i8  ? static_cast<std::int8_t>(i)
                                               : from_f8_e4m3(static_cast<std::uint8_t>(i));
    return static_cast<float>(number * factor);
  };
  for (const InstructionSet set : available_instruction_sets()) {
    const test::Machine machine(set, 1);
    for (const index_t missing : {0, 5, 17}) {  // the end of a row is widened by itself
      std::vector<float> wide(patterns - missing);
      widen(type, numbers.data(), factor, wide);
      for (index_t i = 0; i < wide.size(); ++i)
        if (!test::same(wide[i], expected(i))) FAIL(name(type) << " " << i << " is " << wide[i] << ", expected " << expected(i));
    }
  }
}

TEST_CASE("narrowing comes back, and rounds to nearest even", "[dtype]") {
  for (unsigned bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    if (std::isnan(from_bf16(half)) ? !std::isnan(from_bf16(to_bf16(from_bf16(half)))) : to_bf16(from_bf16(half)) != half)
      FAIL("bf16 " << bits);
    if (std::isnan(from_f16(half)) ? !std::isnan(from_f16(to_f16(from_f16(half)))) : to_f16(from_f16(half)) != half)
      FAIL("f16 " << bits);
  }
  check_rounding(from_bf16, to_bf16, 0x7f7f);
  check_rounding(from_f16, to_f16, 0x7bff);
}

TEST_CASE("narrowing to e4m3 comes back, rounds to nearest even, and ends at 448", "[dtype]") {
  for (unsigned bits = 0; bits < 256; ++bits)
    if (const auto byte = static_cast<std::uint8_t>(bits); to_f8_e4m3(from_f8_e4m3(byte)) != byte) FAIL("e4m3 " << bits);
  for (unsigned bits = 0; bits < 0x7e; ++bits) {
    const auto low = static_cast<std::uint8_t>(bits), high = static_cast<std::uint8_t>(bits + 1);
    const float tie = (from_f8_e4m3(low) + from_f8_e4m3(high)) / 2;
    const std::uint8_t even = bits % 2 == 0 ? low : high;
    if (to_f8_e4m3(tie) != even || to_f8_e4m3(-tie) != (even | 0x80) || to_f8_e4m3(std::nextafter(tie, 0.0f)) != low ||
        to_f8_e4m3(std::nextafter(tie, INFINITY)) != high)
      FAIL("rounding between " << from_f8_e4m3(low) << " and " << from_f8_e4m3(high));
  }
  for (const float large : {448.0f, 463.9f, 464.0f, 480.0f, 1e30f, INFINITY}) {
    CHECK(to_f8_e4m3(large) == 0x7e);
    CHECK(to_f8_e4m3(-large) == 0xfe);
  }
  CHECK(to_f8_e4m3(NAN) == 0x7f);
  CHECK(to_f8_e4m3(0x1p-140f) == 0x00);
  CHECK(to_f8_e4m3(-0x1p-140f) == 0x80);
}

TEST_CASE("narrowing: limits", "[dtype]") {
  CHECK(to_f16(65519.99f) == 0x7bff);
  CHECK(to_f16(65520.0f) == 0x7c00);
  CHECK(to_f16(INFINITY) == 0x7c00);
  CHECK(to_f16(-1e30f) == 0xfc00);
  CHECK(to_f16(0x1p-25f) == 0x0000);  // a tie: to even
  CHECK(to_f16(0x1.000002p-25f) == 0x0001);
  CHECK(to_f16(-1e-30f) == 0x8000);
  CHECK(to_f16(0x1p-140f) == 0x0000);
  CHECK(to_bf16(std::numeric_limits<float>::max()) == 0x7f80);
  CHECK(to_bf16(-INFINITY) == 0xff80);
  for (const std::uint32_t bits : {0x7f800001u, 0x7fffffffu, 0xff800001u, 0x7fc00000u}) {
    CHECK(std::isnan(from_bf16(to_bf16(std::bit_cast<float>(bits)))));
    CHECK(std::isnan(from_f16(to_f16(std::bit_cast<float>(bits)))));
  }
}

TEST_CASE("dtype: sizes and names", "[dtype]") {
  CHECK(element_size(DType::f32) == 4);
  CHECK(element_size(DType::bf16) == 2);
  CHECK(element_size(DType::f16) == 2);
  CHECK(element_size(DType::f8_e4m3) == 1);
  CHECK(element_size(DType::i8) == 1);
  CHECK(name(DType::f8_e4m3) == "f8_e4m3");
  CHECK_THROWS_AS(element_size(static_cast<DType>(99)), std::invalid_argument);
}
