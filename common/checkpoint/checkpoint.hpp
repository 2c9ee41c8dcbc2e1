#pragma once
/// @file
/// A Hugging Face checkpoint directory: config.json and model.safetensors, single or sharded with an index.
/// Files are memory-mapped and hostile: every number in a header is checked before it is used.
/// @see https://github.com/huggingface/safetensors#format
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/files/json.hpp"
#include "common/tensor/linear.hpp"
#include "common/tensor/tensor.hpp"

namespace kv {

/// One tensor of a checkpoint, in place in the mapped file.
struct TensorEntry {
  DType type;
  std::vector<index_t> shape;
  const std::byte* data;  // little-endian and perhaps misaligned: copy bytes, do not cast
  std::size_t bytes;
};

/// One tensor as it is stored, whatever its dtype.
struct RawTensor {
  std::string dtype;  // "I64"
  std::vector<index_t> shape;
  std::span<const std::byte> data;
};

/// An open checkpoint. Cheap to copy; the mapping lives as long as any copy.
class Checkpoint {
 public:
  /// @throws Error when a file is missing, truncated or inconsistent
  explicit Checkpoint(const std::filesystem::path& directory);

  const std::filesystem::path& directory() const;
  /// config.json
  const Json& config() const;

  /// Names of all tensors, sorted.
  std::vector<std::string> names() const;
  bool has(std::string_view name) const;
  /// @throws Error "model.safetensors: tensor 'x' is missing", or when its dtype is one that the book does not read
  const TensorEntry& entry(std::string_view name) const;

  /// A vector widened to f32.  @throws Error with name, found and expected shape, and for an element that is not finite
  Tensor<1> vector(std::string_view name, index_t size) const;
  /// The same in place.
  VectorView vector_view(std::string_view name, index_t size) const;
  /// A matrix in place, with its block scales `<name>_scale_inv` when it is in f8_e4m3 and its row scales `<name>_scale`,
  /// (rows,1) or (rows), when it is in i8; scales are in F32, BF16 or F16. Nothing is read yet but the header.
  /// The view is good for as long as any copy of this checkpoint lives.
  /// @throws Error with name, found and expected shape, also for the scales; for i8 with zero points, `<name>_zero_point`
  MatrixView matrix(std::string_view name, index_t rows, index_t columns) const;
  /// Matrices that are stored as one tensor (count,rows,columns).
  std::vector<MatrixView> matrices(std::string_view name, index_t count, index_t rows, index_t columns) const;

  /// A packed linear layer, from views on this checkpoint. Packed once and shared: every stage that runs on
  /// this checkpoint uses the same copy, which is freed with its last holder. Safe to call from several threads.
  /// @throws Error for a weight or a scale that is no finite number, as require_numbers(); for a file of packed weights that
  /// belongs to others
  std::shared_ptr<const Linear> pack(const LinearView& map) const;
  /// pack(matrix(name, outputs, inputs))
  std::shared_ptr<const Linear> linear(std::string_view name, index_t outputs, index_t inputs) const;

  /// Packs these once more and keeps them in a file beside the checkpoint: from then on pack() finds them there and does not
  /// look at the weights. @see packed_weights.hpp
  std::filesystem::path keep_packed(const std::vector<MatrixView>& matrices, const std::function<void(const MatrixView&)>& on_matrix) const;

  /// Calls `report` whenever pack() has packed another matrix, with its bytes; not for one that it found packed in a file. An empty function ends it.
  /// It is called under a lock and must not call pack().
  void on_packed(std::function<void(std::size_t bytes)> report) const;

  /// A tensor's bytes, to be copied as they are.  @throws Error when it is missing
  RawTensor raw(std::string_view name) const;
  /// A tensor has been read and need not stay in memory. What matrix() gave stays good.
  void drop(std::string_view name) const;

  /// Bytes of all tensors, and how many elements they have. Scales of other tensors are bytes, but no parameters.
  std::size_t bytes() const;
  index_t parameters() const;

 private:
  struct Files;
  std::shared_ptr<Files> files_;
};

}  // namespace kv
