#include "common/checkpoint/safetensors_writer.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <tuple>

#include "common/files/error.hpp"
#include "common/files/json.hpp"
#include "common/files/new_path.hpp"

namespace kv {
namespace {

constexpr std::size_t alignment = 8, data_alignment = 64;  // data: whole vectors in one line of the cache

/// Bytes of one element; of none, as if they were the widest.
std::size_t element_bytes(const StoredTensor& tensor) {
  std::size_t elements = 1;
  for (const index_t size : tensor.shape) elements *= size;
  return elements == 0 ? alignment : tensor.bytes / elements;
}

/// "name":{"dtype":...}
std::string entry_text(const StoredTensor& tensor, std::size_t begin) {
  const std::vector<std::int64_t> shape(tensor.shape.begin(), tensor.shape.end());
  const std::vector<std::int64_t> offsets{static_cast<std::int64_t>(begin), static_cast<std::int64_t>(begin + tensor.bytes)};
  const std::string text =
      JsonObject().set(tensor.name, JsonObject().set("dtype", tensor.dtype).set("shape", shape).set("data_offsets", offsets)).text(-1);
  return text.substr(1, text.size() - 2);
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(std::filesystem::path file, std::vector<StoredTensor> tensors) : path_(std::move(file)) {
  std::ranges::sort(tensors, [](const StoredTensor& a, const StoredTensor& b) {
    return std::tuple(element_bytes(b), std::string_view(a.name)) < std::tuple(element_bytes(a), std::string_view(b.name));
  });
  std::string header = R"({"__metadata__":{"format":"pt"})";  // readers of PyTorch weights ask for it
  for (StoredTensor& tensor : tensors) {
    tensor.begin = missing_bytes_;
    missing_bytes_ += tensor.bytes;
    header += "," + entry_text(tensor, tensor.begin);
  }
  header += "}";
  const std::size_t begin = (sizeof(std::uint64_t) + header.size() + data_alignment - 1) / data_alignment * data_alignment;
  header.resize(begin - sizeof(std::uint64_t), ' ');
  const std::uint64_t length = header.size();
  for (StoredTensor& tensor : tensors) {
    tensor.begin += sizeof length + header.size();
    const std::string name = tensor.name;
    if (!tensors_.emplace(name, std::move(tensor)).second) throw std::invalid_argument("safetensors: two tensors '" + name + "'");
  }
  errno = 0;
  file_.open(path_, std::ios::binary | std::ios::trunc);
  file_.write(reinterpret_cast<const char*>(&length), sizeof length);
  file_.write(header.data(), static_cast<std::streamsize>(header.size()));
  require_good();
}

void SafetensorsWriter::write(std::string_view name, std::size_t offset, std::span<const std::byte> data) {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) throw std::out_of_range("safetensors: no tensor '" + std::string(name) + "'");
  const StoredTensor& tensor = found->second;
  if (offset > tensor.bytes || data.size() > tensor.bytes - offset || data.size() > missing_bytes_)
    throw std::out_of_range("safetensors: more bytes than tensor '" + tensor.name + "' has");
  throw_if_interrupted();
  errno = 0;
  file_.seekp(static_cast<std::streamoff>(tensor.begin + offset));
  file_.write(reinterpret_cast<const char*>(data.data()), static_cast<std::streamsize>(data.size()));
  missing_bytes_ -= data.size();
  require_good();
}

void SafetensorsWriter::close() {
  if (missing_bytes_ != 0) throw std::logic_error("safetensors: " + std::to_string(missing_bytes_) + " bytes were never written");
  errno = 0;
  file_.close();
  require_good();
}

void SafetensorsWriter::require_good() const {
  if (!file_) throw Error(path_.string() + ": cannot be written: " + std::strerror(errno != 0 ? errno : EIO));
}

}  // namespace kv
