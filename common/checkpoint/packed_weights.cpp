#include "common/checkpoint/packed_weights.hpp"

#include <algorithm>
#include <cstring>

#include "common/checkpoint/fingerprint.hpp"
#include "common/checkpoint/safetensors_writer.hpp"
#include "common/files/error.hpp"
#include "common/files/new_path.hpp"

namespace kv {
namespace {

namespace fs = std::filesystem;

constexpr const char* file_name = "packed.kvbook";

/// One line for each shard: what differs between two files that are not the same.
std::string sources(const Shards& shards) {
  std::string text = "kvbook packed weights 2: panels of 32 outputs, bf16 in pairs, i8 in fours\n";
  for (const auto& [name, file] : shards) {
    std::uint64_t header = 0;
    std::memcpy(&header, file->bytes().data(), std::min(sizeof header, file->bytes().size()));
    text += name + " " + std::to_string(file->bytes().size()) + " " + std::to_string(fs::last_write_time(file->path()).time_since_epoch().count()) +
            " " + std::to_string(fingerprint(file->text().substr(0, sizeof header + std::min<std::uint64_t>(header, file->bytes().size())))) + "\n";
  }
  return text;
}

/// "model.safetensors 4096 bf16 1408 2048 2048 1"; empty for a matrix that lies elsewhere.
std::string key(const MatrixView& matrix, const Shards& shards) {
  const auto shard = shard_with(shards, matrix.data);
  if (shard == shards.end()) return {};
  const std::ptrdiff_t offset = static_cast<const std::byte*>(matrix.data) - shard->second->bytes().data();
  std::string text = shard->first + " " + std::to_string(offset) + " " + std::string(name(matrix.type));
  for (const index_t size : {matrix.rows, matrix.columns, matrix.row_stride, matrix.column_stride}) text += " " + std::to_string(size);
  return text;
}

std::string_view text(std::span<const std::byte> bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

StoredTensor stored(std::string name, std::size_t bytes) { return {std::move(name), "U8", {bytes}, 0, bytes}; }

}  // namespace

Shards::const_iterator shard_with(const Shards& shards, const void* address) {
  return std::ranges::find_if(shards, [=](const auto& shard) {
    const std::span all = shard.second->bytes();
    return !std::less<>()(address, all.data()) && std::less<>()(address, all.data() + all.size());
  });
}

PackedWeights::PackedWeights(const fs::path& file) : file_(file) {
  for (const StoredTensor& tensor : safetensors_contents(file_.bytes(), file.string()))
    kept_[tensor.name] = file_.bytes().subspan(tensor.begin, tensor.bytes);
}

std::shared_ptr<const PackedWeights> PackedWeights::of(const fs::path& directory, const Shards& shards) {
  const fs::path file = directory / file_name;
  std::error_code ignored;
  if (!fs::exists(fs::symlink_status(file, ignored))) return nullptr;
  std::shared_ptr<const PackedWeights> packed(new PackedWeights(file));
  const auto found = packed->kept_.find("sources");
  if (found == packed->kept_.end() || text(found->second) != sources(shards))
    throw Error(file.string() + ": was not packed from the weights that are beside it now; run kvbook pack again, or delete it");
  return packed;
}

std::span<const std::byte> PackedWeights::find(const MatrixView& matrix, const Shards& shards) const {
  const auto found = kept_.find(key(matrix, shards));
  if (found == kept_.end()) return {};
  if (found->second.size() != Linear::packed_bytes(matrix))
    throw Error(file_.path().string() + ": has " + std::to_string(found->second.size()) + " bytes of " + std::string(matrix.where) + ", expected " +
                std::to_string(Linear::packed_bytes(matrix)) + "; run kvbook pack again, or delete it");
  return found->second;
}

fs::path keep_packed(const fs::path& directory, const Shards& shards, const std::vector<MatrixView>& matrices,
                     const std::function<void(const MatrixView&)>& on_matrix) {
  std::map<std::string, const MatrixView*> named;  // a matrix that two layers share once
  for (const MatrixView& matrix : matrices)
    if (const std::string name = key(matrix, shards); !name.empty()) named[name] = &matrix;
  const std::string from = sources(shards);
  std::vector<StoredTensor> tensors{stored("sources", from.size())};
  for (const auto& [name, matrix] : named) tensors.push_back(stored(name, Linear::packed_bytes(*matrix)));

  const fs::path file = directory / file_name;
  NewPath unfinished(file, NewPath::Kind::file);
  SafetensorsWriter writer(unfinished.path(), tensors);
  for (const auto& [name, matrix] : named) {
    on_matrix(*matrix);
    writer.write(name, 0, Linear(*matrix).packed());
  }
  writer.write("sources", 0, std::as_bytes(std::span(from)));
  writer.close();
  unfinished.complete();
  return file;
}

}  // namespace kv
