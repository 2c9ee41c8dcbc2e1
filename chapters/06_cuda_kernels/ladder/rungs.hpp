#pragma once
/// @file
/// What a rung is, and the rungs by name. A rung's file ends with its row of the table.
#include <cstddef>
#include <optional>
#include <string>

#include "chapters/06_cuda_kernels/ladder/schedule.hpp"

namespace kv::cuda {

/// What a launch may use beyond the problem.
struct Resources {
  void* workspace;      ///< as many bytes as the rung asks for, aligned to 256, contents of no matter
  int multiprocessors;  ///< the grid of a scheduled rung is made for this many
  cudaStream_t stream = nullptr;
  const Schedule* schedule = nullptr;  ///< of these lengths, in as many shares as the rung asks for; null: it makes its own
};

/// Of the roofline, in percent: the longer of the time for the cache's bytes and that for the products' operations,
/// divided by the time measured.
struct Percent {
  int low, high;
};

/// What was written down before anything had been measured. H200: 4.3 TB/s and 790 TFLOP/s of bf16, both measured with
/// programs that do nothing else; batch 128, context 4096.
struct Prediction {
  std::optional<Percent> at_16_heads, at_128_heads;
};

struct Rung {
  int number;
  char letter = 0;               ///< of a step between two numbers, 'b' in 7b; 0: none
  const char* name;
  const char* idea;
  const char* removes;           ///< the bottleneck of the rung before
  Prediction prediction;
  int capability = 80;           ///< the least, as in DeviceProperties
  bool only_there = false;       ///< and no other: wgmma is Hopper's alone
  bool untried = false;          ///< no GPU has run it: it is tested beside the others, and no model uses it
  std::size_t shared_bytes = 0;  ///< of a block; a device must have as many
  bool rounds_weights = false;   ///< to bf16, for the tensor cores
  std::size_t (*workspace_bytes)(const MlaDecode& problem, int multiprocessors) = nullptr;
  /// Queues its work on the stream and returns. It does not wait, allocate or look at device memory, so it can be
  /// captured in a CUDA graph. @throws std::invalid_argument, CudaError
  void (*launch)(const MlaDecode& problem, const Resources& resources) = nullptr;
  /// Shares of a schedule; null: the rung needs none.
  int (*share_count)(const MlaDecode& problem, int multiprocessors) = nullptr;

  /// "7b"
  std::string label() const { return std::to_string(number) + (letter ? std::string(1, letter) : ""); }
};

Rung naive();
Rung warp_per_token();
Rung shared_tile();
Rung all_heads();
Rung split();
Rung tensor_cores();
Rung tma();
Rung eight_warps();
Rung one_warpgroup();
Rung two_warpgroups();
Rung wgmma();
Rung queued();
Rung cluster();
Rung few_heads();

/// Workspace of rungs 1 and 2: a score for every head and token that the table has room for.
inline std::size_t score_bytes(const MlaDecode& problem, int) {
  return std::size_t(problem.batch) * problem.heads * problem.table_width * page_tokens * sizeof(float);
}
/// Workspace of rungs 3 and 4.
inline std::size_t no_bytes(const MlaDecode&, int) { return 0; }

}  // namespace kv::cuda
