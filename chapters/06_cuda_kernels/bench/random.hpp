#pragma once
/// @file
/// Random numbers made on the device: weights of a model that would take minutes to copy.
#include <cstdint>

#include "chapters/06_cuda_kernels/model/matrix.hpp"

namespace kv::cuda {

/// Uniform in -spread ... spread. Not for statistics: a hash of the seed and the place.
void fill_random(bf16* data, std::size_t count, float spread, std::uint64_t seed, cudaStream_t stream);
void fill_random(float* data, std::size_t count, float spread, std::uint64_t seed, cudaStream_t stream);

/// A matrix whose products keep the size of what it multiplies.
Matrix random_matrix(index_t rows, index_t columns, std::uint64_t seed);

}  // namespace kv::cuda
