#pragma once
/// @file
/// FlashMLA's decode kernel for Hopper, as a yardstick of the ladder. Where the build names no checkout of it, there is none.
#include <memory>
#include <string>

#include "chapters/06_cuda_kernels/ladder/mla_decode.hpp"
#include "common/cuda/stream.hpp"

namespace kv::cuda {

bool has_flashmla();
/// Of the checkout; empty where it is not known.
std::string flashmla_commit();

/// One decode step by FlashMLA: its kernel over parts of the sequences, and the one that combines them. Its schedule is made
/// once, in the constructor: a model makes it once per step, for all its layers. A rung makes its own in every launch.
/// An error of CUDA within FlashMLA ends the program, with a message.
/// @see https://github.com/deepseek-ai/FlashMLA
class FlashMlaDecode {
 public:
  /// Makes the schedule from the lengths, and waits. @throws CudaError where the program has no FlashMLA
  FlashMlaDecode(const MlaDecode& problem, int multiprocessors);
  ~FlashMlaDecode();
  /// Can be captured in a CUDA graph. @param problem of the sizes and lengths of the constructor's; no length is 0, for
  /// which FlashMLA gives another log-sum-exp
  void queue(const MlaDecode& problem, cudaStream_t stream);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace kv::cuda
