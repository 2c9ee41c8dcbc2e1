#pragma once
/// @file
/// NVIDIA's own matrix product, as a yardstick. Where the program is not built by nvcc, or the toolkit lacks it, there is none.
#include "common/cuda/stream.hpp"

namespace kv::cuda {

bool has_cublas();

/// C = A B^T for square matrices of bf16 with sums in f32.
class CublasProduct {
 public:
  explicit CublasProduct(int size);
  ~CublasProduct();
  CublasProduct(const CublasProduct&) = delete;
  CublasProduct& operator=(const CublasProduct&) = delete;
  void queue(cudaStream_t stream);

 private:
  struct State;
  State* state_;
};

}  // namespace kv::cuda
