#include "common/checkpoint/checkpoint.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <mutex>
#include <optional>
#include <set>

#include "common/checkpoint/checkpoint_directory.hpp"
#include "common/checkpoint/packed_weights.hpp"
#include "common/checkpoint/safetensors.hpp"
#include "common/files/error.hpp"
#include "common/files/mapped_file.hpp"

namespace kv {
namespace {

namespace fs = std::filesystem;

constexpr index_t scale_block = 128;  // rows and columns that share one scale of an fp8 matrix

std::optional<DType> readable_type(std::string_view dtype) {
  if (dtype == "F32") return DType::f32;
  if (dtype == "BF16") return DType::bf16;
  if (dtype == "F16") return DType::f16;
  if (dtype == "F8_E4M3") return DType::f8_e4m3;
  if (dtype == "I8") return DType::i8;
  return std::nullopt;
}

/// What the index maps each tensor to. A hostile name could lead out of the directory.
void require_plain_name(const std::string& shard, const Json& entry) {
  const bool plain = shard.find_first_of(std::string("/\\\0", 3)) == shard.npos && !shard.starts_with('.');
  if (!plain || !shard.ends_with(".safetensors"))
    throw Error(entry.where() + " is not the plain name of a .safetensors file");
}

index_t blocks(index_t size) { return (size + scale_block - 1) / scale_block; }

}  // namespace

struct Checkpoint::Files {
  /// A tensor and the file it is in.
  struct Located {
    TensorEntry entry;
    std::string dtype;  // as the file calls it
    bool readable;      // entry.type holds
    const MappedFile* file;
    std::string where;  // "model.safetensors: tensor 'x'"
  };

  explicit Files(const fs::path& directory);

  const Located& find(std::string_view name) const;
  const Located& find(std::string_view name, std::span<const index_t> expected_shape) const;
  const Located& located(std::string_view name) const;
  VectorView block_scales(const std::string& name, const Located& weight) const;
  VectorView row_scales(const std::string& name, const Located& weight) const;
  VectorView numbers(const Located& found) const;
  void drop(const MatrixView& matrix) const;
  Linear packed(const LinearView& map);

  fs::path directory;
  Json config;
  fs::path listing;  // the file that says which tensors there are
  Shards shards;
  std::map<std::string, Located, std::less<>> tensors;
  std::map<std::string, std::string, std::less<>> promised;  // tensors that the index lists, and the shards that lack them

  std::mutex packing;  // guards what follows
  std::optional<std::shared_ptr<const PackedWeights>> kept;  // nothing before somebody packs; null: no such file
  std::map<LinearView, std::weak_ptr<const Linear>> linears;
  std::function<void(std::size_t bytes)> report_packed;

 private:
  void open_single();
  void open_sharded();
  void add(const StoredTensor& stored, const MappedFile& file);
};

// ---- opening ----

namespace {

/// What cannot be looked at does not exist.
bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

}  // namespace

Checkpoint::Files::Files(const fs::path& where)
    : directory(checkpoint_directory(where)), config(Json::read(directory / "config.json")) {
  if (is_there(directory / "model.safetensors"))
    open_single();
  else if (is_there(directory / "model.safetensors.index.json"))
    open_sharded();
  else
    throw Error(directory.string() +
                ": has no model.safetensors and no model.safetensors.index.json; other formats are not read");
}

void Checkpoint::Files::open_single() {
  listing = directory / "model.safetensors";
  const auto& file = *(shards["model.safetensors"] = std::make_unique<MappedFile>(listing));
  for (const StoredTensor& stored : safetensors_contents(file.bytes(), listing.string())) add(stored, file);
}

/// The index decides which shard a tensor is taken from, and that tensors it does not list are not there. It may list one that
/// its shard does not have, if nobody asks for it.
void Checkpoint::Files::open_sharded() {
  listing = directory / "model.safetensors.index.json";
  const Json index = Json::read(listing);
  const Json weight_map = index.at("weight_map");
  std::map<std::string, std::set<std::string>> listed;  // by shard
  for (const std::string& name : weight_map.keys()) {
    const Json entry = weight_map.at(name);
    const std::string shard = entry.text();
    require_plain_name(shard, entry);
    if (!shards.contains(shard)) {
      if (!is_there(directory / shard))
        throw Error(entry.where() + " names " + shard + ", which is missing; download it again");
      shards[shard] = std::make_unique<MappedFile>(directory / shard);
    }
    listed[shard].insert(name);
  }
  for (auto& [shard, names] : listed) {
    const MappedFile& file = *shards[shard];
    for (const StoredTensor& stored : safetensors_contents(file.bytes(), file.path().string()))
      if (names.erase(stored.name)) add(stored, file);
    for (const std::string& name : names) promised[name] = shard;
  }
}

void Checkpoint::Files::add(const StoredTensor& stored, const MappedFile& file) {
  const auto type = readable_type(stored.dtype);
  TensorEntry entry{type.value_or(DType::f32), stored.shape, file.bytes().data() + stored.begin, stored.bytes};
  tensors.emplace(stored.name, Located{std::move(entry), stored.dtype, type.has_value(), &file,
                                       file.path().string() + ": tensor '" + stored.name + "'"});
}

Checkpoint::Checkpoint(const std::filesystem::path& directory) : files_(std::make_shared<Files>(directory)) {}

// ---- finding ----

const Checkpoint::Files::Located& Checkpoint::Files::located(std::string_view name) const {
  const auto found = tensors.find(name);
  if (found != tensors.end()) return found->second;
  if (const auto shard = promised.find(name); shard != promised.end())
    throw Error(listing.string() + ": lists tensor '" + std::string(name) + "' in " + shard->second + ", which does not have it; download it again");
  const std::string packed = std::string(name) + "_packed";
  throw Error(listing.string() + ": tensor '" + std::string(name) + "' is missing" +
              (tensors.contains(packed) ? "; '" + packed + "' is there, and packed integers are not read" : ""));
}

const Checkpoint::Files::Located& Checkpoint::Files::find(std::string_view name) const {
  const Located& tensor = located(name);
  if (tensor.readable) return tensor;
  throw Error(tensor.where + " has dtype " + tensor.dtype +
              ", which is not read here; F32, BF16, F16, F8_E4M3 and I8 are");
}

const Checkpoint::Files::Located& Checkpoint::Files::find(std::string_view name,
                                                          std::span<const index_t> expected_shape) const {
  const Located& tensor = find(name);
  if (std::ranges::equal(tensor.entry.shape, expected_shape)) return tensor;
  throw Error(tensor.where + " has shape " + shape_text(tensor.entry.shape) + ", expected " +
              shape_text(expected_shape));
}

const std::filesystem::path& Checkpoint::directory() const { return files_->directory; }
const Json& Checkpoint::config() const { return files_->config; }

std::vector<std::string> Checkpoint::names() const {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : files_->tensors) names.push_back(name);
  return names;
}

bool Checkpoint::has(std::string_view name) const { return files_->tensors.contains(name); }
const TensorEntry& Checkpoint::entry(std::string_view name) const { return files_->find(name).entry; }

RawTensor Checkpoint::raw(std::string_view name) const {
  const Files::Located& found = files_->located(name);
  return {found.dtype, found.entry.shape, {found.entry.data, found.entry.bytes}};
}

void Checkpoint::drop(std::string_view name) const {
  const Files::Located& found = files_->located(name);
  found.file->drop({found.entry.data, found.entry.bytes});
}

std::size_t Checkpoint::bytes() const {
  std::size_t bytes = 0;
  for (const auto& [name, tensor] : files_->tensors) bytes += tensor.entry.bytes;
  return bytes;
}

index_t Checkpoint::parameters() const {
  index_t parameters = 0;
  const auto is_scale_of = [&](std::string_view name, std::string_view ending) {
    return name.ends_with(ending) && files_->tensors.contains(name.substr(0, name.size() - ending.size()));
  };
  for (const auto& [name, tensor] : files_->tensors) {
    if (is_scale_of(name, "_scale") || is_scale_of(name, "_scale_inv")) continue;
    index_t elements = 1;
    for (const index_t size : tensor.entry.shape) elements *= size;
    parameters += elements;
  }
  return parameters;
}

// ---- reading ----

/// A tensor of any shape as it lies in the file.
VectorView Checkpoint::Files::numbers(const Located& found) const {
  const DType type = found.entry.type;
  if (type != DType::f32 && type != DType::bf16 && type != DType::f16)
    throw Error(found.where + " has dtype " + std::string(kv::name(type)) + ", expected f32, bf16 or f16");
  return {found.entry.data, type};
}

VectorView Checkpoint::vector_view(std::string_view name, index_t size) const {
  const Files::Located& found = files_->find(name, std::array{size});
  const VectorView numbers = files_->numbers(found);
  for (index_t i = 0; i < size; ++i)
    if (!std::isfinite(numbers[i]))
      throw Error(found.where + " has element " + std::to_string(i) + ", which is not finite; the file is damaged: download it again");
  return numbers;
}

Tensor<1> Checkpoint::vector(std::string_view name, index_t size) const {
  const VectorView numbers = vector_view(name, size);
  Tensor<1> result = empty<1>({size});
  for (index_t i = 0; i < size; ++i) result(i) = numbers[i];
  return result;
}

/// One scale for every 128 x 128 block of an fp8 matrix; none for other dtypes.
VectorView Checkpoint::Files::block_scales(const std::string& name, const Located& weight) const {
  const std::string scales_name = name + "_scale_inv";
  const bool there = tensors.contains(scales_name);
  if (weight.entry.type != DType::f8_e4m3) {
    if (there) throw Error(weight.where + " has block scales although its dtype is not F8_E4M3");
    return {};
  }
  if (!there) throw Error(weight.where + " has dtype F8_E4M3, but its scales '" + scales_name + "' are missing");
  return numbers(find(scales_name, std::array{blocks(weight.entry.shape[0]), blocks(weight.entry.shape[1])}));
}

/// One scale for every row of an i8 matrix; none for other dtypes.
VectorView Checkpoint::Files::row_scales(const std::string& name, const Located& weight) const {
  const std::string scales_name = name + "_scale";
  const bool there = tensors.contains(scales_name);
  if (weight.entry.type != DType::i8) {
    if (there) throw Error(weight.where + " has scales of its rows although its dtype is not I8");
    return {};
  }
  if (!there) throw Error(weight.where + " has dtype I8, but its scales '" + scales_name + "' are missing");
  if (tensors.contains(name + "_zero_point"))
    throw Error(weight.where + " has zero points, '" + name + "_zero_point'; only symmetric integers are read");
  const Located& found = find(scales_name);
  const index_t rows = weight.entry.shape[0];
  if (!std::ranges::equal(found.entry.shape, std::array{rows, index_t{1}}) && !std::ranges::equal(found.entry.shape, std::array{rows}))
    throw Error(found.where + " has shape " + shape_text(found.entry.shape) + ", expected " +
                shape_text(std::array{rows, index_t{1}}) + " or " + shape_text(std::array{rows}) + ": one scale for each output");
  return numbers(found);
}

MatrixView Checkpoint::matrix(std::string_view name, index_t rows, index_t columns) const {
  const Files::Located& found = files_->find(name, std::array{rows, columns});
  const std::string owned(name);
  return {found.entry.data, found.entry.type, rows, columns, columns, 1, files_->block_scales(owned, found),
          files_->row_scales(owned, found), found.where};
}

std::vector<MatrixView> Checkpoint::matrices(std::string_view name, index_t count, index_t rows, index_t columns) const {
  const Files::Located& found = files_->find(name, std::array{count, rows, columns});
  const DType type = found.entry.type;
  if (type == DType::f8_e4m3 || type == DType::i8)
    throw Error(found.where + " has dtype " + std::string(kv::name(type)) + "; rounded matrices are read from tensors of their own only");
  std::vector<MatrixView> result;
  for (index_t i = 0; i < count; ++i)
    result.push_back({found.entry.data + i * rows * columns * element_size(type), type, rows, columns, columns, 1, {}, {}, found.where});
  return result;
}

/// Its pages may leave memory; those of a slice with what lies between its rows, which is read again when it is needed.
void Checkpoint::Files::drop(const MatrixView& matrix) const {
  if (matrix.rows == 0 || matrix.columns == 0) return;
  const index_t extent = (matrix.rows - 1) * matrix.row_stride + (matrix.columns - 1) * matrix.column_stride + 1;
  if (const auto shard = shard_with(shards, matrix.data); shard != shards.end())
    shard->second->drop({static_cast<const std::byte*>(matrix.data), extent * element_size(matrix.type)});
}

/// As it is kept, or packed now.
Linear Checkpoint::Files::packed(const LinearView& map) {
  if (!kept) kept = PackedWeights::of(directory, shards);
  const std::span bytes = *kept ? (*kept)->find(map.weight, shards) : std::span<const std::byte>();
  if (!bytes.empty()) return Linear(map, bytes, *kept);
  Linear linear(map);
  drop(map.weight);  // or all weights would be in memory twice
  if (report_packed) report_packed(map.weight.rows * map.weight.columns * element_size(map.weight.type));
  return linear;
}

std::shared_ptr<const Linear> Checkpoint::pack(const LinearView& map) const {
  const std::lock_guard lock(files_->packing);
  std::weak_ptr<const Linear>& known = files_->linears[map];
  if (auto linear = known.lock()) return linear;
  auto linear = std::make_shared<const Linear>(files_->packed(map));
  known = linear;
  return linear;
}

std::shared_ptr<const Linear> Checkpoint::linear(std::string_view name, index_t outputs, index_t inputs) const {
  return pack(matrix(name, outputs, inputs));
}

std::filesystem::path Checkpoint::keep_packed(const std::vector<MatrixView>& matrices,
                                              const std::function<void(const MatrixView&)>& on_matrix) const {
  return kv::keep_packed(directory(), files_->shards, matrices, on_matrix);
}

void Checkpoint::on_packed(std::function<void(std::size_t bytes)> report) const {
  const std::lock_guard lock(files_->packing);
  files_->report_packed = std::move(report);
}

}  // namespace kv
