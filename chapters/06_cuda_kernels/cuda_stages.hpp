#pragma once
/// @file
/// Stages `cuda-naive`, `cuda-bf16`, `cuda-absorbed` and `cuda-uncached`: the whole model as kernels of one device, on a GPU or on
/// the CPU's runtime.
#include <memory>

#include "chapters/models/stage_options.hpp"
#include "common/checkpoint/checkpoint.hpp"
#include "common/model/transformer.hpp"

namespace kv {

/// The chapter of these stages.
inline constexpr int cuda_chapter = 6;
/// Whether this program runs their kernels on the CPU, and not on a GPU.
bool cuda_runs_on_cpu();

/// Keys and values of all heads are kept on the device.
/// @throws Error where there is no device
std::unique_ptr<Transformer> make_cuda_naive(const Checkpoint& checkpoint, const Limits& limits, const StageOptions& options);

/// The same, rounded to bf16.
std::unique_ptr<Transformer> make_cuda_bf16(const Checkpoint& checkpoint, const Limits& limits, const StageOptions& options);

/// Latents are kept.
std::unique_ptr<Transformer> make_cuda_absorbed(const Checkpoint& checkpoint, const Limits& limits, const StageOptions& options);

/// Nothing is kept: chapter 1 on the device.
std::unique_ptr<Transformer> make_cuda_uncached(const Checkpoint& checkpoint, const Limits& limits, const StageOptions& options);

}  // namespace kv
