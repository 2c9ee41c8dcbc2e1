#pragma once
/// @file
/// The ladder as a table: the same problem, the same answer, one bottleneck fewer on each rung. Tests and the benchmark
/// go through it.
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "chapters/06_cuda_kernels/ladder/rungs.hpp"
#include "common/cuda/device_properties.hpp"
#include "common/cuda/memory.hpp"

namespace kv::cuda {

/// In order, naive first; those that no GPU has run are among them.
std::span<const Rung> ladder();
/// Why the device cannot run a rung; empty when it can.
std::string why_not(const Rung& rung, const DeviceProperties& device);
/// @throws std::invalid_argument, naming the rungs there are
const Rung& find_rung(std::string_view label);

/// A problem in host memory.
struct MlaDecodeOnHost {
  int heads, table_width;
  float scale;
  std::vector<bf16> queries;     ///< (B,H,576)
  std::vector<bf16> latents;     ///< (pages,64,576)
  std::vector<int> lengths;      ///< (B)
  std::vector<int> block_table;  ///< (B,table_width)
};
struct Decoded {
  std::vector<bf16> output;  ///< (B,H,512)
  std::vector<float> lse;    ///< (B,H)
};
/// The same in device memory, with room for the results.
class MlaDecodeOnDevice {
 public:
  /// Checks everything, and copies it. @throws std::invalid_argument, std::out_of_range, CudaError
  explicit MlaDecodeOnDevice(const MlaDecodeOnHost& host);

  const MlaDecode& problem() const { return problem_; }
  /// Longer or shorter sequences in the same pages. Waits. @throws as the constructor
  void set_lengths(std::span<const int> lengths);
  /// Makes all results NaN, so that one that is not written shows. Waits.
  void poison();
  /// Waits for the device.
  Decoded results() const { return {output_.download(), lse_.download()}; }

 private:
  Buffer<bf16> queries_, latents_, output_;
  Buffer<int> lengths_, block_table_;
  Buffer<float> lse_;
  std::vector<int> host_table_;
  MlaDecode problem_;
};

/// One decode step, with everything checked and copied.
/// @throws std::invalid_argument, std::out_of_range, CudaError
Decoded decode(const Rung& rung, const MlaDecodeOnHost& problem, int multiprocessors);

}  // namespace kv::cuda
