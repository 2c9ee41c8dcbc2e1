// Rows of numbers in smaller formats against the definition of each format in double, under every
// instruction set: exact.
#include "common/tensor/widen.hpp"

#include <cmath>
#include <cstring>
#include <numeric>

#include "tests/support/catch.hpp"
#include "tests/support/instruction_sets.hpp"

using namespace kv;
using namespace kv::test;

namespace {

const std::vector<index_t> widths = {1,  2,  6,  15, 16,  17,  31,  32,
                                     33, 48, 63, 64, 100, 128, 192, 576};

/// Every pattern of a format once, and some again, at an offset that differs from row to row.
template <class Pattern>
std::vector<Pattern> patterns(index_t count, unsigned first, unsigned step) {
  std::vector<Pattern> result(count);
  for (index_t i = 0; i < count; ++i) result[i] = static_cast<Pattern>(first + i * step);
  return result;
}

/// What lies behind a row stays as it is.
template <class Widen>
std::vector<float> widened(index_t count, Widen widen) {
  std::vector<float> out(count + 8, 7.0f);
  widen(std::span<float>(out).first(count));
  for (index_t i = count; i < out.size(); ++i) REQUIRE(out[i] == 7.0f);
  out.resize(count);
  return out;
}

template <class Pattern, class Number>
void check_type(DType type, unsigned all, const std::vector<float>& factors, Number number) {
  for (const InstructionSet set : available_instruction_sets()) {
    const Machine machine(set, 1);
    for (const index_t width : widths)
      for (const float factor : factors)
        for (unsigned first = 0; first < all;
             first += static_cast<unsigned>(std::max<index_t>(width, all / 9))) {
          const auto row = patterns<Pattern>(width, first, 1);
          std::vector<float> expected;
          for (const Pattern p : row)
            expected.push_back(
                static_cast<float>(static_cast<double>(factor) * static_cast<double>(number(p))));
          const std::vector<float> found = widened(width, [&](std::span<float> out) {
            widen(type, reinterpret_cast<const std::byte*>(row.data()), factor, out);
          });
          CAPTURE(name(set), name(type), width, factor, first);
          REQUIRE(first_difference(found, expected) == width);
        }
  }
}

}  // namespace

TEST_CASE("rows of 16-bit numbers are widened exactly, NaN and infinity too", "[widen]") {
  check_type<std::uint16_t>(DType::bf16, 65536, {1.0f},
                            [](std::uint16_t p) { return from_bf16(p); });
  check_type<std::uint16_t>(DType::f16, 65536, {1.0f}, [](std::uint16_t p) { return from_f16(p); });
}

TEST_CASE("rows of 8-bit numbers times a factor are rounded once", "[widen]") {
  const std::vector<float> factors{1.0f, 0.0f, 0.1f, 3e-5f, 0x1p-149f, 1.7e-40f, 0x1.9p119f, NAN};
  check_type<std::int8_t>(DType::i8, 256, factors,
                          [](std::int8_t p) { return static_cast<float>(p); });
  check_type<std::uint8_t>(DType::f8_e4m3, 256, factors,
                           [](std::uint8_t p) { return from_f8_e4m3(p); });
  std::byte byte{};
  float out = 0;
  CHECK_THROWS_AS(widen(DType::f32, &byte, 1.0f, {&out, 1}), std::invalid_argument);
}

TEST_CASE("rows of 4-bit codes: factor times code plus offset, rounded once", "[widen]") {
  for (const InstructionSet set : available_instruction_sets()) {
    const Machine machine(set, 1);
    for (const index_t width : widths) {
      const auto codes = patterns<std::uint8_t>((width + 1) / 2, 3, 37);
      const std::vector<float> factors = random_floats(width, 1, 0.0f, 0.2f),
                               offsets = random_floats(width, 2);
      const auto code = [&](index_t i) { return codes[i / 2] >> (i % 2 == 0 ? 0 : 4) & 15; };
      const auto* bytes = reinterpret_cast<const std::byte*>(codes.data());
      std::vector<float> own, shared;
      for (index_t i = 0; i < width; ++i) {
        own.push_back(std::fma(static_cast<float>(code(i)), factors[i], offsets[i]));
        shared.push_back(std::fma(static_cast<float>(code(i)), factors[i / 32], offsets[i / 32]));
      }
      CAPTURE(name(set), width);
      CHECK(first_difference(widened(width,
                                     [&](std::span<float> out) {
                                       widen_codes(bytes, factors.data(), offsets.data(), out);
                                     }),
                             own) == width);
      CHECK(first_difference(widened(width,
                                     [&](std::span<float> out) {
                                       widen_codes_in_groups(bytes, factors.data(), offsets.data(),
                                                             out);
                                     }),
                             shared) == width);
    }
  }
}
