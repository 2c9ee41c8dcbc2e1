#include "tests/bench/limits.hpp"

#include <cstring>

// Compiled for the machine it is built on, with -ffast-math: no order, no other machine, nothing to be equal to.

namespace kv::bench {
namespace {

/// Floats in a register. A wider vector would be several, and the sums below would not stay in registers.
#if defined(__AVX512F__)
constexpr int lanes = 16;
#elif defined(__AVX__)
constexpr int lanes = 8;
#else
constexpr int lanes = 4;
#endif

typedef float Floats __attribute__((vector_size(4 * lanes)));
typedef std::uint32_t Bits __attribute__((vector_size(4 * lanes)));
typedef std::uint16_t Halves __attribute__((vector_size(2 * lanes)));
typedef std::uint64_t Longs __attribute__((vector_size(4 * lanes)));

/// No alignment is assumed.
template <class T>
inline T load(const void* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}
inline Floats load_weights(const float* p) { return load<Floats>(p); }
inline Floats load_weights(const std::uint16_t* p) {
  const Bits bits = __builtin_convertvector(load<Halves>(p), Bits) << 16;
  return load<Floats>(&bits);
}

template <class Weight>
void multiply(const Weight* weights, std::size_t outputs, std::size_t inputs, const float* x, float* y) {
  for (std::size_t o = 0; o < outputs; ++o) {
    const Weight* w = weights + o * inputs;
    Floats sums[8] = {};
    for (std::size_t k = 0; k < inputs; k += 8 * lanes) {
#pragma GCC unroll 8
      for (int v = 0; v < 8; ++v) {
        const std::size_t i = k + v * lanes;
        if (i % (64 / sizeof(Weight)) == 0) __builtin_prefetch(w + i + 1024 / sizeof(Weight), 0, 2);
        sums[v] += load_weights(w + i) * load<Floats>(x + i);
      }
    }
    const Floats sum = ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
    float total = 0;
    for (int i = 0; i < lanes; ++i) total += sum[i];
    y[o] = total;
  }
}

}  // namespace

double multiply_add_registers(std::size_t rounds) {
  constexpr int chains = 12;
  Floats sums[chains] = {}, a = {}, b = {};
  asm volatile("" : "+m"(a), "+m"(b));  // values that the compiler does not know
  const Floats factor = a, term = b;
  for (std::size_t round = 0; round < rounds; ++round)
#pragma GCC unroll 12
    for (int i = 0; i < chains; ++i) sums[i] = sums[i] * factor + term;
  for (int i = 0; i < chains; ++i) asm volatile("" ::"m"(sums[i]));
  return static_cast<double>(rounds) * chains * lanes * 2;
}

std::uint64_t read_all(const void* data, std::size_t bytes) {
  Longs sums[4] = {};
  const std::size_t quarter = bytes / 4;  // four streams are faster than one
  for (std::size_t i = 0; i + 64 <= quarter; i += 64) {
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      const char* p = static_cast<const char*>(data) + v * quarter + i;
      __builtin_prefetch(p + 1024, 0, 2);  // to the second cache: on a Zen 4 a seventh faster than to the first
#pragma GCC unroll 4
      for (int part = 0; part < 64; part += 4 * lanes) sums[v] += load<Longs>(p + part);
    }
  }
  const Longs sum = sums[0] + sums[1] + sums[2] + sums[3];
  std::uint64_t total = 0;
  for (int i = 0; i < lanes / 2; ++i) total += sum[i];
  return total;
}

void multiply_unordered(const float* weights, std::size_t outputs, std::size_t inputs, const float* x, float* y) {
  multiply(weights, outputs, inputs, x, y);
}
void multiply_unordered(const std::uint16_t* weights, std::size_t outputs, std::size_t inputs, const float* x, float* y) {
  multiply(weights, outputs, inputs, x, y);
}

}  // namespace kv::bench
