#pragma once
/// @file
/// NumPy's .npy files: f32 and int32, row-major, little-endian. For logits that other programs read, and for goldens.
/// @see https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "common/tensor/tensor.hpp"

namespace kv {

/// What a .npy file says it holds, checked against its size.
struct NpyContents {
  std::string type;                 // "<f4"
  std::vector<index_t> shape;
  std::span<const std::byte> data;  // exactly the bytes that type and shape need; perhaps misaligned
};

/// @param file all bytes, hostile  @param where names the file in errors
/// @throws Error "logits.npy: ..."
NpyContents npy_contents(std::span<const std::byte> file, const std::string& where);

/// The f32 tensor in a file.  @throws Error when the file is not one of rank N
template <std::size_t N = 2>
Tensor<N> read_npy_f32(const std::filesystem::path& path);

/// The int32 values in a file, row by row, and their shape.  @throws Error when the file does not hold int32
std::vector<std::int32_t> read_npy_i32(const std::filesystem::path& path, std::vector<index_t>& shape);
std::vector<std::int32_t> read_npy_i32(const std::filesystem::path& path);

/// Writes the whole file or, when that fails, leaves what was there before.
/// @throws Error with the file and the system's reason
template <std::size_t N>
void write_npy(const std::filesystem::path& path, const Tensor<N>& tensor);

}  // namespace kv
