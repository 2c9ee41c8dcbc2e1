#pragma once
/// @file
/// The first and the last gather of rows: embeddings of tokens, and the rows whose logits are wanted.
#include "chapters/06_cuda_kernels/model/linear.hpp"
#include "chapters/06_cuda_kernels/model/tokens.hpp"

namespace kv::cuda {

/// x(n,:) = embedding(ids[n],:).  @param x (N,M)
void embed(const Matrix& embedding, const Tokens& tokens, float* x, cudaStream_t stream);

/// y(i,:) = x(wanted[i],:).  @param wanted (count)
void gather_rows(const float* x, int width, const int* wanted, int count, float* y, cudaStream_t stream);

}  // namespace kv::cuda
