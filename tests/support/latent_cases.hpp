#pragma once
/// @file
/// The golden checkpoints of multi-head latent attention, and what chapter 4's tests do with them.
#include <algorithm>
#include <cstring>
#include <filesystem>
#include <random>

#include "chapters/decoders.hpp"
#include "common/files/npy.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/feed.hpp"
#include "tests/support/latent_oracle.hpp"
#include "tests/support/temporary.hpp"

namespace kv::test::latent {

/// Between them: q_lora present and null, value width above and below the plain width, YaRN with mscale below and above
/// mscale_all_dim, 200 tokens on original lengths of 128 and 64, f32 and fp8 weights.
inline constexpr const char* latent_cases[]{"deepseek-v2-dense", "deepseek-v2-yarn", "deepseek-v3-dense",
                                            "deepseek-v3-yarn", "deepseek-v3-fp8"};

inline std::filesystem::path golden_folder(const std::string& name) {
  return std::filesystem::path(KV_GOLDEN) / "models" / name;
}

inline std::vector<Token> golden_tokens(const std::string& name) {
  const std::vector<std::int32_t> ids = read_npy_i32(golden_folder(name) / "tokens.npy");
  return {ids.begin(), ids.end()};
}

/// Hidden states as a layer sees them: about 1, not centred, no two alike.
inline Tensor<2> hidden_states(index_t count, index_t width, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> value(0.1f, 1.0f);
  Tensor<2> x = empty<2>({count, width});
  for (float& each : x) each = value(generator);
  return x;
}

inline bool equal_bits(const Tensor<2>& a, const Tensor<2>& b) {
  return a.shape() == b.shape() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

/// Pieces of 1 ... `longest` that add up to `total`.
inline std::vector<index_t> random_chunks(index_t total, index_t longest, unsigned seed) {
  std::mt19937 generator(seed);
  std::vector<index_t> chunks;
  for (index_t left = total; left > 0; left -= chunks.back())
    chunks.push_back(std::min<index_t>(left, 1 + generator() % longest));
  return chunks;
}

/// One sequence through one layer, piece by piece.
inline Tensor<2> run_in_chunks(Attention& attention, const Tensor<2>& x, const std::vector<index_t>& chunks,
                               index_t sequence = 0) {
  Tensor<2> result = empty<2>({x.shape(0), x.shape(1)});
  index_t first = 0;
  for (const index_t T : chunks) {
    put_rows(result, first, feed(attention, rows(x, first, T), {{sequence, 0, T}}));
    first += T;
  }
  return result;
}

}  // namespace kv::test::latent
