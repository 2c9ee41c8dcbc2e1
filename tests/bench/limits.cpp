#include "tests/bench/limits.hpp"

#include <cstring>

// Compiled for the machine it is built on, with -ffast-math: no order, no other machine, nothing to be equal to.

namespace kv::bench {
namespace {

typedef float Floats __attribute__((vector_size(64)));
typedef std::uint32_t Bits __attribute__((vector_size(64)));
typedef std::uint16_t Halves __attribute__((vector_size(32)));
typedef std::uint64_t Longs __attribute__((vector_size(64)));

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
    for (std::size_t k = 0; k < inputs; k += 128) {
#pragma GCC unroll 8
      for (std::size_t v = 0; v < 128; v += 16) {
        __builtin_prefetch(w + k + v + 1024 / sizeof(Weight));
        sums[v / 16] += load_weights(w + k + v) * load<Floats>(x + k + v);
      }
    }
    const Floats sum = ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
    float total = 0;
    for (int i = 0; i < 16; ++i) total += sum[i];
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
  return static_cast<double>(rounds) * chains * 16 * 2;
}

std::uint64_t read_all(const void* data, std::size_t bytes) {
  Longs sums[4] = {};
  const std::size_t quarter = bytes / 4;  // four streams are faster than one
  for (std::size_t i = 0; i + 64 <= quarter; i += 64) {
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      const char* p = static_cast<const char*>(data) + v * quarter + i;
      __builtin_prefetch(p + 1024);
      sums[v] += load<Longs>(p);
    }
  }
  const Longs sum = sums[0] + sums[1] + sums[2] + sums[3];
  std::uint64_t total = 0;
  for (int i = 0; i < 8; ++i) total += sum[i];
  return total;
}

void multiply_unordered(const float* weights, std::size_t outputs, std::size_t inputs, const float* x, float* y) {
  multiply(weights, outputs, inputs, x, y);
}
void multiply_unordered(const std::uint16_t* weights, std::size_t outputs, std::size_t inputs, const float* x, float* y) {
  multiply(weights, outputs, inputs, x, y);
}

}  // namespace kv::bench
