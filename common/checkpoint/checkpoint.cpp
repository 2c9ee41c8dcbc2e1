#include "common/checkpoint/checkpoint.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>
#include <optional>
#include <set>

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

/// The tensor where kernels may read it as numbers: in the file, or else in `copy`, which is made if it is not there.
const std::byte* aligned(const TensorEntry& entry, std::unique_ptr<std::byte[]>& copy) {
  if (reinterpret_cast<std::uintptr_t>(entry.data) % element_size(entry.type) == 0) return entry.data;
  if (!copy) {
    copy = std::make_unique<std::byte[]>(entry.bytes);  // aligned for every number
    std::memcpy(copy.get(), entry.data, entry.bytes);
  }
  return copy.get();
}

float widened(const TensorEntry& entry, index_t i) {
  if (entry.type == DType::f32) {
    float value;
    std::memcpy(&value, entry.data + 4 * i, 4);
    return value;
  }
  std::uint16_t bits;
  std::memcpy(&bits, entry.data + 2 * i, 2);
  return entry.type == DType::bf16 ? from_bf16(bits) : from_f16(bits);
}

bool is_vector_type(DType type) { return type == DType::f32 || type == DType::bf16 || type == DType::f16; }

index_t blocks(index_t size) { return (size + scale_block - 1) / scale_block; }

}  // namespace

struct Checkpoint::Files {
  /// A tensor and the file it is in.
  struct Located {
    TensorEntry entry;
    std::string dtype;  // as the file calls it
    bool readable;      // entry.type holds
    const MappedFile* file;

    std::string where(std::string_view name) const {
      return file->path().string() + ": tensor '" + std::string(name) + "'";
    }
  };

  explicit Files(const fs::path& directory);

  const Located& find(std::string_view name) const;
  const Located& find(std::string_view name, std::span<const index_t> expected_shape) const;
  const Located& located(std::string_view name) const;
  const float* block_scales(const std::string& name, const TensorEntry& weight);
  std::vector<float> row_scales(const std::string& name, const TensorEntry& weight) const;
  const float* kept_row_scales(const std::string& name, const TensorEntry& weight);
  const std::byte* kept(std::string_view name);

  fs::path directory;
  Json config;
  fs::path listing;  // the file that says which tensors there are
  std::map<std::string, std::unique_ptr<MappedFile>> shards;
  std::map<std::string, Located, std::less<>> tensors;

  std::mutex copying;  // guards copies and widened_scales
  std::map<std::string, std::unique_ptr<std::byte[]>> copies;  // of misaligned tensors
  std::map<std::string, std::vector<float>> widened_scales;    // of i8 matrices, by the name of the matrix
  std::mutex packing;  // guards linears and report_packed; taken before copying
  std::map<std::string, std::weak_ptr<const Linear>> linears;
  std::function<void(std::size_t bytes)> report_packed;

 private:
  void open_single();
  void open_sharded();
  void add(const StoredTensor& stored, const MappedFile& file);
  void require_block_size() const;
};

// ---- opening ----

namespace {

/// What cannot be looked at does not exist.
bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

fs::path existing_directory(const fs::path& directory) {
  std::error_code ignored;
  if (fs::is_directory(directory, ignored)) return directory;
  throw Error(directory.string() + (is_there(directory) ? ": is not a directory" : ": no such directory") +
              "; give a Hugging Face checkpoint: config.json and model.safetensors in one directory");
}

}  // namespace

Checkpoint::Files::Files(const fs::path& where)
    : directory(existing_directory(where)), config(Json::read(directory / "config.json")) {
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

/// The index decides which shard a tensor is taken from, and that tensors it does not list are not there.
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
    if (!names.empty()) throw Error(weight_map.at(*names.begin()).where() + " is not in " + shard);
  }
}

void Checkpoint::Files::add(const StoredTensor& stored, const MappedFile& file) {
  const auto type = readable_type(stored.dtype);
  TensorEntry entry{type.value_or(DType::f32), stored.shape, file.bytes().data() + stored.begin, stored.bytes};
  tensors.emplace(stored.name, Located{std::move(entry), stored.dtype, type.has_value(), &file});
}

Checkpoint::Checkpoint(const std::filesystem::path& directory) : files_(std::make_shared<Files>(directory)) {}

// ---- finding ----

const Checkpoint::Files::Located& Checkpoint::Files::located(std::string_view name) const {
  const auto found = tensors.find(name);
  if (found != tensors.end()) return found->second;
  const std::string packed = std::string(name) + "_packed";
  throw Error(listing.string() + ": tensor '" + std::string(name) + "' is missing" +
              (tensors.contains(packed) ? "; '" + packed + "' is there, and packed integers are not read" : ""));
}

const Checkpoint::Files::Located& Checkpoint::Files::find(std::string_view name) const {
  const Located& tensor = located(name);
  if (tensor.readable) return tensor;
  throw Error(tensor.where(name) + " has dtype " + tensor.dtype +
              ", which is not read here; F32, BF16, F16, F8_E4M3 and I8 are");
}

const Checkpoint::Files::Located& Checkpoint::Files::find(std::string_view name,
                                                          std::span<const index_t> expected_shape) const {
  const Located& tensor = find(name);
  if (std::ranges::equal(tensor.entry.shape, expected_shape)) return tensor;
  throw Error(tensor.where(name) + " has shape " + shape_text(tensor.entry.shape) + ", expected " +
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

Tensor<1> Checkpoint::vector(std::string_view name, index_t size) const {
  const Files::Located& found = files_->find(name, std::array{size});
  const DType type = found.entry.type;
  if (!is_vector_type(type))
    throw Error(found.where(name) + " has dtype " + std::string(kv::name(type)) +
                ", expected f32, bf16 or f16 for a vector");
  Tensor<1> result = empty<1>({size});
  for (index_t i = 0; i < size; ++i) result(i) = widened(found.entry, i);
  return result;
}

/// Aligned data that is good for as long as the checkpoint lives.
const std::byte* Checkpoint::Files::kept(std::string_view name) {
  const TensorEntry& entry = find(name).entry;
  const std::lock_guard lock(copying);
  return aligned(entry, copies[std::string(name)]);
}

/// The blocks of other checkpoints are refused, even where the shape of the scales would happen to fit.
void Checkpoint::Files::require_block_size() const {
  if (!config.has("quantization_config") || !config.at("quantization_config").has("weight_block_size")) return;
  const Json size = config.at("quantization_config").at("weight_block_size");
  if (size.length() != 2 || size.at(index_t{0}).size() != scale_block || size.at(index_t{1}).size() != scale_block)
    throw Error(size.where() + " is not [128, 128], the only blocks that are read here");
}

/// One scale for every 128 x 128 block of an fp8 matrix; none for other dtypes.
const float* Checkpoint::Files::block_scales(const std::string& name, const TensorEntry& weight) {
  const std::string scales_name = name + "_scale_inv";
  const bool there = tensors.contains(scales_name);
  if (weight.type != DType::f8_e4m3) {
    if (there) throw Error(find(name).where(name) + " has block scales although its dtype is not F8_E4M3");
    return nullptr;
  }
  if (!there)
    throw Error(find(name).where(name) + " has dtype F8_E4M3, but its scales '" + scales_name + "' are missing");
  require_block_size();
  const Located& scales = find(scales_name, std::array{blocks(weight.shape[0]), blocks(weight.shape[1])});
  if (scales.entry.type != DType::f32)
    throw Error(scales.where(scales_name) + " has dtype " + std::string(kv::name(scales.entry.type)) +
                ", expected f32 for scales");
  return reinterpret_cast<const float*>(kept(scales_name));
}

/// One scale for every row of an i8 matrix; none for other dtypes.
std::vector<float> Checkpoint::Files::row_scales(const std::string& name, const TensorEntry& weight) const {
  const std::string scales_name = name + "_scale", where = located(name).where(name);
  if (weight.type != DType::i8) {
    if (tensors.contains(scales_name))
      throw Error(where + " has scales of its rows although its dtype is not I8");
    return {};
  }
  if (!tensors.contains(scales_name))
    throw Error(where + " has dtype I8, but its scales '" + scales_name + "' are missing");
  if (tensors.contains(name + "_zero_point"))
    throw Error(where + " has zero points, '" + name + "_zero_point'; only symmetric integers are read");
  const Located& scales = find(scales_name);
  const index_t rows = weight.shape.at(0), columns = weight.shape.at(1);
  if (!std::ranges::equal(scales.entry.shape, std::array{rows, index_t{1}}) && !std::ranges::equal(scales.entry.shape, std::array{rows}))
    throw Error(scales.where(scales_name) + " has shape " + shape_text(scales.entry.shape) + ", expected " +
                shape_text(std::array{rows, index_t{1}}) + " or " + shape_text(std::array{rows}) + ": one scale for each output");
  if (!is_vector_type(scales.entry.type))
    throw Error(scales.where(scales_name) + " has dtype " + std::string(kv::name(scales.entry.type)) +
                ", expected f32, bf16 or f16 for scales");
  std::vector<float> result(rows);
  for (index_t i = 0; i < rows; ++i) {
    result[i] = widened(scales.entry, i);
    const auto row = std::span(weight.data + i * columns, columns);
    const bool fits = result[i] > 0 || (result[i] == 0 && std::ranges::all_of(row, [](std::byte b) { return b == std::byte{0}; }));
    if (!std::isfinite(result[i]) || !fits)
      throw Error(scales.where(scales_name) + " is " + std::to_string(result[i]) + " for output " + std::to_string(i) +
                  "; a scale is finite and positive, or zero for a row of zeros");
  }
  return result;
}

/// The same, good for as long as the checkpoint lives; null when there are none.
const float* Checkpoint::Files::kept_row_scales(const std::string& name, const TensorEntry& weight) {
  {
    const std::lock_guard lock(copying);
    if (const auto known = widened_scales.find(name); known != widened_scales.end()) return known->second.data();
  }
  std::vector<float> scales = row_scales(name, weight);
  if (weight.type != DType::i8) return nullptr;
  const std::lock_guard lock(copying);
  return widened_scales.try_emplace(name, std::move(scales)).first->second.data();
}

MatrixView Checkpoint::matrix(std::string_view name, index_t rows, index_t columns) const {
  const TensorEntry& entry = files_->find(name, std::array{rows, columns}).entry;
  const float* const block_scales = files_->block_scales(std::string(name), entry);
  const float* const row_scales = files_->kept_row_scales(std::string(name), entry);
  return {files_->kept(name), entry.type, rows, columns, columns, 1, block_scales, row_scales};
}

std::shared_ptr<const Linear> Checkpoint::linear(std::string_view name, index_t outputs, index_t inputs) const {
  const Files::Located& found = files_->find(name, std::array{outputs, inputs});
  const std::lock_guard lock(files_->packing);
  std::weak_ptr<const Linear>& known = files_->linears[std::string(name)];
  if (auto linear = known.lock()) return linear;

  std::unique_ptr<std::byte[]> copy;  // only needed while packing, unlike that of matrix()
  const float* const block_scales = files_->block_scales(std::string(name), found.entry);
  const std::vector<float> row_scales = files_->row_scales(std::string(name), found.entry);
  const MatrixView weight{aligned(found.entry, copy), found.entry.type, outputs, inputs, inputs, 1, block_scales,
                          row_scales.empty() ? nullptr : row_scales.data()};
  auto linear = std::make_shared<const Linear>(weight);
  known = linear;
  found.file->drop({found.entry.data, found.entry.bytes});  // or all weights would be in memory twice
  if (files_->report_packed) files_->report_packed(found.entry.bytes);
  return linear;
}

void Checkpoint::on_packed(std::function<void(std::size_t bytes)> report) const {
  const std::lock_guard lock(files_->packing);
  files_->report_packed = std::move(report);
}

}  // namespace kv
