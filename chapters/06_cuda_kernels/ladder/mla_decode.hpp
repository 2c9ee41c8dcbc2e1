#pragma once
/// @file
/// The problem that every rung of the ladder solves: one decode step of absorbed MLA over a paged latent cache.
/// \f[ o_{b,h} = \sum_{s < S_b} \operatorname{softmax}_s(\sigma\, q_{b,h} \cdot c_{b,s})\, c_{b,s}[0 \ldots 511], \qquad
///     \ell_{b,h} = \ln \sum_{s < S_b} e^{\sigma\, q_{b,h} \cdot c_{b,s}} \f]
/// A cached row is 512 numbers of latent and 64 of rotated key; the values are the first 512 of the keys, so each row
/// need be read only once. All of kv::attend_latents, for T = 1 and for the sizes of DeepSeek-V2 and V3.
#include <cstddef>
#include <span>

#include "common/cuda/device.hpp"

namespace kv::cuda {

inline constexpr int latent_width = 576;  ///< numbers in a query and in a cached row: latent and rotated part
inline constexpr int value_width = 512;   ///< numbers in a value and in an output: the latent
inline constexpr int page_tokens = 64;    ///< cached rows in a page
inline constexpr int most_sequences = 25'000;  ///< whose offsets fit into the shared memory of any GPU, 99 KiB

// [problem]
/// One decode step. All pointers are to device memory; nothing here is read on the host, so a step
/// can be captured in a CUDA graph and replayed when the numbers behind the pointers have changed.
struct MlaDecode {
  const bf16* queries;     ///< (B,H,576), absorbed, with their rotated parts
  const bf16* latents;     ///< (pages,64,576), the cache
  const int* lengths;      ///< (B), tokens of each sequence; 0 is allowed
  /// (B,table_width), the page of a sequence's tokens 64i ... 64i+63; the rest is never read
  const int* block_table;
  bf16* output;            ///< (B,H,512), zeros for an empty sequence
  float* lse;  ///< (B,H), natural logarithm of the sum of exponentials; -inf for an empty sequence
  int batch, heads, pages, table_width;
  float scale;             ///< 1/sqrt(D) of the heads that were absorbed: 192^-0.5, never 576^-0.5
// [problem]

  /// @return the query (576) of a head
  __device__ const bf16* query(int b, int h) const { return queries + (std::size_t(b) * heads + h) * latent_width; }
  /// @return where in the cache the i-th page of a sequence is
  __device__ int page_number(int b, int i) const { return block_table[std::size_t(b) * table_width + i]; }
  /// @return (64,576), the i-th page of a sequence
  __device__ const bf16* page(int b, int i) const {
    return latents + std::size_t(page_number(b, i)) * page_tokens * latent_width;
  }
  /// @return the cached row (576) of a token
  __device__ const bf16* row(int b, int t) const {
    return page(b, t / page_tokens) + t % page_tokens * latent_width;
  }
  /// Index of a head among the outputs and log-sum-exps.
  __device__ std::size_t place(int b, int h) const { return std::size_t(b) * heads + h; }
};

/// Pages that hold this many tokens.
__host__ __device__ inline int pages_of(int length) { return (length + page_tokens - 1) / page_tokens; }
/// Tokens in the i-th page of a sequence: 64, fewer in the last.
__device__ inline int rows_of_page(int length, int i) { return min(page_tokens, length - i * page_tokens); }

/// @throws std::invalid_argument
void require_size(const char* what, std::size_t found, std::size_t expected);
/// What can be checked without reading device memory.
/// @throws std::invalid_argument for sizes below 1 (a batch may be empty) or too large for a grid
void require_fit(const MlaDecode& problem);
/// What the kernels trust: lengths within the table, pages within the cache.
/// @param lengths (B)  @param block_table (B,table_width), both on the host
/// @throws std::invalid_argument for wrong sizes, std::out_of_range for a length or a page
void require_fit(const MlaDecode& problem, std::span<const int> lengths, std::span<const int> block_table);

}  // namespace kv::cuda
