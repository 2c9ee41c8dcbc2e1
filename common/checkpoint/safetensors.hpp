#pragma once
/// @file
/// What a safetensors file says it holds. The file is hostile: nothing it says is believed before it is checked.
///
///     8 bytes        N, the length of the header, little-endian
///     N bytes        JSON: {"name": {"dtype": "F32", "shape": [2,3], "data_offsets": [0,24]}, ...}
///     the rest       the tensors, one directly after the other; nothing says that they are aligned
///
/// @see https://github.com/huggingface/safetensors#format
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "common/tensor/tensor.hpp"

namespace kv {

/// One tensor of a file, inside it: begin + bytes is at most the file's size, and `bytes` is what dtype and shape need.
struct StoredTensor {
  std::string name;
  std::string dtype;           // "BF16"
  std::vector<index_t> shape;  // no axes: a scalar
  std::size_t begin;           // from the start of the file; may be odd
  std::size_t bytes;
};

/// Checks the header of a whole file: names differ, dtypes are known, shapes fit sizes, and the tensors cover the
/// data exactly, without holes or overlaps.
/// @param file all bytes  @param where names the file in errors
/// @return in the order of the data  @throws Error "model.safetensors: tensor 'x' ..."
std::vector<StoredTensor> safetensors_contents(std::span<const std::byte> file, const std::string& where);

}  // namespace kv
