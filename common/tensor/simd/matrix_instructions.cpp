#include "common/tensor/simd/matrix_instructions.hpp"

#include <cstring>

#ifdef KV_AMX_KERNELS
#include <cpuid.h>
#endif
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace kv::simd {

#ifdef KV_AMX_KERNELS
extern const TileKernels amx_tile_kernels;
#endif
#ifdef KV_BF16_KERNELS
extern const TileKernels bf16_pair_kernels;
#endif
#ifdef KV_VNNI_KERNELS
extern const IntegerTile vnni_tile;
extern const CodeKernels vnni_code_kernels;
#endif

const TileKernels* amx_tiles() {
#ifdef KV_AMX_KERNELS
  return &amx_tile_kernels;
#else
  return nullptr;
#endif
}

const TileKernels* bf16_pairs() {
#ifdef KV_BF16_KERNELS
  return &bf16_pair_kernels;
#else
  return nullptr;
#endif
}

const IntegerTile* vnni() {
#ifdef KV_VNNI_KERNELS
  return &vnni_tile;
#else
  return nullptr;
#endif
}

const CodeKernels* vnni_codes() {
#ifdef KV_VNNI_KERNELS
  return &vnni_code_kernels;
#else
  return nullptr;
#endif
}

namespace {

/// Tile registers are large, so Linux gives them to a process that asks.
/// @see https://docs.kernel.org/arch/x86/xstate.html
bool amx_allowed() {
#if defined(KV_AMX_KERNELS) && defined(SYS_arch_prctl)
  constexpr int request_permission = 0x1023, tile_data = 18;
  constexpr unsigned amx_bf16 = 1u << 22, amx_tile = 1u << 24;  // clang 14's __builtin_cpu_supports does not know them
  unsigned a = 0, b = 0, c = 0, features = 0;
  return __get_cpuid_count(7, 0, &a, &b, &c, &features) != 0 && (features & amx_bf16) != 0 && (features & amx_tile) != 0 &&
         syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
#else
  return false;
#endif
}

constexpr std::size_t probe_inputs = 3 * tile_block, probe_width = 32;

/// Two rows times 32 outputs. Exponents lie so close that every other order shows in the last bits; in the second row they
/// are so small that inputs, products and sums are subnormal, and zero.
void probe_sums(const TileKernels& tiles, float* sums) {
  float x[2 * probe_inputs];
  std::uint16_t weights[probe_inputs * probe_width];
  std::uint32_t state = 1;
  const auto random_bf16 = [&](std::uint32_t exponent) {  // of 8 exponents from this one on
    state = state * 1664525 + 1013904223;
    return static_cast<std::uint16_t>((state >> 31) << 15 | (exponent + (state >> 28) % 8) << 7 | ((state >> 20) & 0x7f));
  };
  for (std::size_t i = 0; i < 2 * probe_inputs; ++i) {
    const std::uint32_t bits = static_cast<std::uint32_t>(random_bf16(i < probe_inputs ? 124 : i % 5 == 0 ? 0 : 56)) << 16;
    std::memcpy(x + i, &bits, sizeof bits);
  }
  for (std::size_t i = 0; i < probe_inputs * probe_width; ++i) weights[i] = random_bf16(i % 7 == 0 ? 0 : i % 2 == 0 ? 64 : 124);

  const TileShape shape{1, 1, 1, probe_inputs / tile_block};
  alignas(64) std::byte rows[2 * probe_inputs * sizeof(float)], laid_out[sizeof weights * 2];
  tiles.take_rows({x, probe_inputs, 2}, probe_inputs, shape, rows);
  if (tiles.take_weights) tiles.take_weights(weights, shape.blocks, laid_out);
  tiles.multiply(rows, 1, shape, tiles.take_weights ? static_cast<const void*>(laid_out) : weights, shape.blocks, sums, false, weights);
}

bool same_sums(const TileKernels& instruction, const TileKernels& expected) {
  float found[2 * probe_width], right[2 * probe_width];
  probe_sums(instruction, found);
  probe_sums(expected, right);
  return std::memcmp(found, right, sizeof found) == 0;
}

/// Two columns times 32 outputs: all numbers of 8 bits, the largest products side by side among them.
void probe_sums(const IntegerTile& tile, std::int32_t* sums) {
  constexpr std::size_t quads = 64, inputs = quads * quad;
  std::int8_t columns[2 * inputs], weights[inputs * probe_width];
  for (std::size_t i = 0; i < 2 * inputs; ++i) columns[i] = static_cast<std::int8_t>(i < inputs ? i % 7 == 0 ? 127 : -128 : i);
  for (std::size_t i = 0; i < sizeof weights; ++i) weights[i] = static_cast<std::int8_t>(i / 128 % 3 == 0 ? i * 77 : i % 2 == 0 ? 127 : -128);
  alignas(64) std::byte taken[2 * (quads + 1) * 2 * quad];
  tile.take_columns(columns, inputs, 2, quads, taken);
  tile.multiply(taken, 2, weights, quads, sums, weights, 0);
}

bool same_sums(const IntegerTile& instruction, const IntegerTile& expected) {
  std::int32_t found[2 * probe_width], right[2 * probe_width];
  probe_sums(instruction, found);
  probe_sums(expected, right);
  return std::memcmp(found, right, sizeof found) == 0;
}

/// Scores of two queries and 16 rows, with the largest products side by side.
void probe_scores(const CodeKernels& codes, float* scores) {
  constexpr std::size_t width = 64, count = 16;
  float queries[2 * width], scales[count];
  std::int8_t numbers[count * width];
  const std::int8_t* rows[count];
  for (std::size_t i = 0; i < 2 * width; ++i) queries[i] = i < width ? 1.0f : static_cast<float>(i % 13) - 6.0f;
  for (std::size_t i = 0; i < sizeof numbers; ++i) numbers[i] = static_cast<std::int8_t>(i / width % 3 == 0 ? -127 : i * 77 % 255 - 127);
  for (std::size_t s = 0; s < count; ++s) rows[s] = numbers + s * width, scales[s] = 1.0f;
  codes.dot({queries, width, 2}, {rows, count, width, width, scales, count}, scores, count);
}

bool same_scores(const CodeKernels& instruction, const CodeKernels& expected) {
  float found[2 * 16], right[2 * 16];
  probe_scores(instruction, found);
  probe_scores(expected, right);
  return std::memcmp(found, right, sizeof found) == 0;
}

}  // namespace

bool amx_works(const TileKernels& expected) {
  static const bool works = amx_allowed() && same_sums(*amx_tiles(), expected);
  return works;
}

bool bf16_pairs_work(const TileKernels& expected) {
#ifdef KV_BF16_KERNELS
  static const bool works = __builtin_cpu_supports("avx512bf16") && same_sums(*bf16_pairs(), expected);
  return works;
#else
  return false;
#endif
}

bool vnni_works(const IntegerTile& expected, const CodeKernels& codes) {
#ifdef KV_VNNI_KERNELS
  static const bool works =
      __builtin_cpu_supports("avx512vnni") && same_sums(*vnni(), expected) && same_scores(*vnni_codes(), codes);
  return works;
#else
  return false;
#endif
}

}  // namespace kv::simd
