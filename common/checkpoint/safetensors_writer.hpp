#pragma once
/// @file
/// Writes a safetensors file piece by piece, so that no tensor need be in memory whole.
#include <filesystem>
#include <fstream>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/checkpoint/safetensors.hpp"

namespace kv {

/// One file, whose tensors are known from the start: the header stands in front and says where each one lies.
/// The widest elements come first, so that every tensor is aligned, as the format's own library does it.
class SafetensorsWriter {
 public:
  /// Writes the header.  @param tensors with names, dtypes, shapes and bytes; `begin` is not looked at
  /// @throws Error with the file and the system's reason
  SafetensorsWriter(std::filesystem::path file, std::vector<StoredTensor> tensors);

  /// Writes bytes offset ... of a tensor. The pieces may come in any order, and each byte once.
  /// @throws Error as above, std::out_of_range for what does not belong to the tensor
  void write(std::string_view tensor, std::size_t offset, std::span<const std::byte> data);
  /// Ends the file.  @throws Error when the last bytes cannot be written, std::logic_error when some are missing
  void close();

 private:
  void require_good() const;

  std::filesystem::path path_;
  std::ofstream file_;
  std::map<std::string, StoredTensor, std::less<>> tensors_;  // `begin` from the start of the file
  std::size_t missing_bytes_ = 0;
};

}  // namespace kv
