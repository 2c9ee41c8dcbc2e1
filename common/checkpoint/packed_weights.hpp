#pragma once
/// @file
/// Packed weights in a file beside the checkpoint that they were made from, so that a start maps them and packs nothing. It is
/// made when it is asked for, and is good for these very files: their sizes, times and headers are in it.
///
/// A safetensors file: the packed bytes of every matrix, named by where the matrix lies, and the text `sources`.
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/files/mapped_file.hpp"
#include "common/tensor/linear.hpp"

namespace kv {

/// The files of a checkpoint by name.
using Shards = std::map<std::string, std::unique_ptr<MappedFile>>;

/// The one that holds this address, or the end.
Shards::const_iterator shard_with(const Shards& shards, const void* address);

class PackedWeights {
 public:
  /// Null when the directory has none.  @throws Error when it was made from other files than these, or is damaged
  static std::shared_ptr<const PackedWeights> of(const std::filesystem::path& directory, const Shards& shards);

  /// Packed bytes of a matrix that lies in one of the shards; none when they are not kept.
  /// @throws Error when they are not as many as such a matrix needs
  std::span<const std::byte> find(const MatrixView& matrix, const Shards& shards) const;

 private:
  explicit PackedWeights(const std::filesystem::path& file);

  MappedFile file_;
  std::map<std::string, std::span<const std::byte>> kept_;
};

/// Packs matrices of the shards one after the other and writes the file, whole or not at all.
/// @param on_matrix called before each  @return its path  @throws Error; Interrupted
std::filesystem::path keep_packed(const std::filesystem::path& directory, const Shards& shards, const std::vector<MatrixView>& matrices,
                                  const std::function<void(const MatrixView&)>& on_matrix);

}  // namespace kv
