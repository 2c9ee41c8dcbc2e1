/// @file
/// machine_limits [THREADS]: what this machine does at most just now, as one JSON object: bytes read from memory per second,
/// f32 multiply-adds in registers (2 operations each) per second, the medians of some short measurements by the wall clock.
/// Alone in its file so that it can run between the engines without loading anything:
///   g++ -std=c++20 -O3 -ffast-math -march=native -pthread machine_limits.cpp -o machine_limits
#include <sys/mman.h>

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

namespace {

#ifdef __AVX512F__
constexpr int vector_bytes = 64, chains = 24;
#else
constexpr int vector_bytes = 32, chains = 12;  // wider ones would be taken apart and spilled
#endif
typedef float Floats __attribute__((vector_size(vector_bytes)));
typedef long long Longs __attribute__((vector_size(vector_bytes)));

constexpr std::size_t region_bytes = std::size_t{256} << 20;  // for each thread, beyond every cache

double multiply_adds(const std::byte*) {
  constexpr int rounds = 2'000'000;
  Floats sums[chains] = {}, factor = {}, term = {};
  asm volatile("" : "+x"(factor), "+x"(term));  // values that the compiler does not know, or all chains would be one
#pragma GCC unroll 24
  for (int i = 0; i < chains; ++i) asm volatile("" : "+x"(sums[i]));
  for (int round = 0; round < rounds; ++round)
#pragma GCC unroll 24
    for (int i = 0; i < chains; ++i) sums[i] = sums[i] * factor + term;
#pragma GCC unroll 24
  for (int i = 0; i < chains; ++i) asm volatile("" ::"x"(sums[i]));
  return 2.0 * rounds * chains * (vector_bytes / sizeof(float));
}

double read_region(const std::byte* region) {
  constexpr std::size_t streams = 4, stream_bytes = region_bytes / streams;  // several streams are faster than one
  Longs sums[streams] = {};
  for (std::size_t i = 0; i < stream_bytes; i += vector_bytes)
    for (std::size_t s = 0; s < streams; ++s) {
      const std::byte* p = region + s * stream_bytes + i;
      __builtin_prefetch(p + 1024, 0, 2);
      Longs value;
      std::memcpy(&value, p, sizeof value);
      sums[s] += value;
    }
  for (const Longs& sum : sums) asm volatile("" ::"x"(sum));
  return region_bytes;
}

/// Median over some measurements of what all threads do together in a second.
double rate(const std::vector<std::byte*>& regions, double (*work)(const std::byte*)) {
  std::vector<double> rates;
  for (int measurement = 0; measurement < 9; ++measurement) {
    std::vector<double> done(regions.size());
    std::vector<std::thread> threads;
    std::barrier start(static_cast<std::ptrdiff_t>(regions.size()) + 1);
    for (std::size_t t = 0; t < regions.size(); ++t)
      threads.emplace_back([&, t] {
        start.arrive_and_wait();
        done[t] = work(regions[t]);
      });
    const auto begin = std::chrono::steady_clock::now();
    start.arrive_and_wait();
    for (std::thread& thread : threads) thread.join();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    double total = 0;
    for (const double part : done) total += part;
    rates.push_back(total / seconds.count());
  }
  std::ranges::sort(rates);
  return rates[rates.size() / 2];
}

}  // namespace

int main(int count, char** values) {
  std::vector<std::byte*> regions(count > 1 ? std::strtoul(values[1], nullptr, 10) : 1);
  for (std::byte*& region : regions) {
    region = static_cast<std::byte*>(std::aligned_alloc(std::size_t{2} << 20, region_bytes));
    if (!region) return 1;
    madvise(region, region_bytes, MADV_HUGEPAGE);
    std::memset(region, 1, region_bytes);
  }
  const double bytes = rate(regions, read_region), operations = rate(regions, multiply_adds);
  std::printf("{\"threads\": %zu, \"read_gb_per_s\": %.2f, \"fma_gflops\": %.1f}\n", regions.size(), bytes * 1e-9, operations * 1e-9);
}
