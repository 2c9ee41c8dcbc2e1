#pragma once
/// @file
/// A checkpoint with its linear weights rounded to 8-bit integers, in the layout of compressed-tensors: `<name>` in I8
/// (out,in), `<name>_scale` in F32 (out,1), and a quantization_config in config.json.
#include <filesystem>
#include <functional>
#include <string>

#include "common/checkpoint/checkpoint.hpp"

namespace kv {

/// What was written.
struct Quantised {
  index_t rounded, copied;           ///< tensors
  std::size_t bytes_before, bytes;  ///< of all tensors
};

/// Whether a tensor's values are rounded: the projections of attention and of feed-forward halves, experts among them,
/// and the output matrix where it is not the embedding: every step reads all of it.
/// Not rounded are
/// - the embedding: a step reads one row of it;
/// - a router's gate: it is small, and two scores that are nearly equal choose other experts when they are rounded;
/// - kv_b_proj: absorption works with its transpose, and a scale of an output is none of an input, so it would have to be
///   widened to f32 again, which costs more memory than it came from;
/// - norms and biases, which are vectors.
bool is_rounded(std::string_view tensor, const std::vector<index_t>& shape);

/// Writes a checkpoint to a directory of a new name: rounded_to_i8 of what is_rounded, all other tensors byte for byte, in
/// one model.safetensors; every other file that holds no weights is copied. The original is read and the new one written
/// tensor by tensor. The directory has another name until it is complete; on an error nothing is left of it.
/// @param on_tensor called before each, with its name
/// @throws Error when the output exists or cannot be written, the model is one that the book does not run, its weights
/// are rounded already, or one of them is not finite
Quantised quantise(const Checkpoint& checkpoint, const std::filesystem::path& output,
                   const std::function<void(const std::string&)>& on_tensor = {});

}  // namespace kv
