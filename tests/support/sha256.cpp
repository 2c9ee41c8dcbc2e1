#include "tests/support/sha256.hpp"

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <vector>

namespace kv::test {
namespace {

using Word = std::uint32_t;
using Words = std::array<Word, 8>;

/// The first 32 bits of the fractions of the roots of the first 64 primes: its constants, as the standard defines them.
template <class Root>
std::array<Word, 64> fractions(Root root) {
  std::array<Word, 64> result;
  std::size_t count = 0;
  for (unsigned number = 2; count < result.size(); ++number) {
    bool prime = true;
    for (unsigned divisor = 2; divisor < number; ++divisor) prime = prime && number % divisor != 0;
    if (!prime) continue;
    const long double value = root(static_cast<long double>(number));
    result[count++] = static_cast<Word>((value - std::floor(value)) * 4294967296.0L);
  }
  return result;
}

/// The message, a one bit, zeros, and its length in bits in the last 8 bytes of a block of 64.
std::vector<std::byte> padded(std::span<const std::byte> bytes) {
  std::vector<std::byte> message(bytes.begin(), bytes.end());
  message.push_back(std::byte{0x80});
  while (message.size() % 64 != 56) message.push_back(std::byte{0});
  const std::uint64_t bits = 8 * static_cast<std::uint64_t>(bytes.size());
  for (int shift = 56; shift >= 0; shift -= 8) message.push_back(static_cast<std::byte>(bits >> shift));
  return message;
}

/// The 16 words of a block, and 48 more made of them.
std::array<Word, 64> schedule(const std::byte* block) {
  std::array<Word, 64> w{};
  for (int i = 0; i < 64; ++i) w[i / 4] = w[i / 4] << 8 | static_cast<Word>(block[i]);
  for (int i = 16; i < 64; ++i) {
    const Word near = w[i - 2], far = w[i - 15];
    w[i] = w[i - 16] + (std::rotr(far, 7) ^ std::rotr(far, 18) ^ far >> 3) + w[i - 7] +
           (std::rotr(near, 17) ^ std::rotr(near, 19) ^ near >> 10);
  }
  return w;
}

void take_in(Words& state, const std::array<Word, 64>& w, const std::array<Word, 64>& constants) {
  auto [a, b, c, d, e, f, g, h] = state;
  for (int i = 0; i < 64; ++i) {
    const Word first = h + (std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25)) + ((e & f) ^ (~e & g)) +
                       constants[i] + w[i];
    const Word second = (std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
    h = g, g = f, f = e, e = d + first, d = c, c = b, b = a, a = first + second;
  }
  const Words added{a, b, c, d, e, f, g, h};
  for (int i = 0; i < 8; ++i) state[i] += added[i];
}

}  // namespace

std::string sha256(std::span<const std::byte> bytes) {
  const auto square_roots = fractions([](long double x) { return std::sqrt(x); });
  const auto cube_roots = fractions([](long double x) { return std::cbrt(x); });
  Words state;
  for (int i = 0; i < 8; ++i) state[i] = square_roots[i];
  const std::vector<std::byte> message = padded(bytes);
  for (std::size_t block = 0; block < message.size(); block += 64)
    take_in(state, schedule(message.data() + block), cube_roots);
  std::string text;
  for (const Word word : state) {
    char digits[9];
    std::snprintf(digits, sizeof digits, "%08x", static_cast<unsigned>(word));
    text += digits;
  }
  return text;
}

}  // namespace kv::test
