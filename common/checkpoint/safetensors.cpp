#include "common/checkpoint/safetensors.hpp"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <map>
#include <string_view>
#include <tuple>

#include "common/files/error.hpp"
#include "common/files/json.hpp"

namespace kv {
namespace {

static_assert(std::endian::native == std::endian::little, "tensors are used in place, and they are little-endian");

constexpr std::size_t length_bytes = 8;
constexpr std::size_t longest_header = 100'000'000;  // the reference implementation's limit
constexpr std::size_t most_axes = 64;                // PyTorch's limit; keeps messages short

/// Bits of one element, for every dtype of the format: sizes are checked even where the book has no use for the dtype.
const std::map<std::string, std::size_t, std::less<>> element_bits = {
    {"BOOL", 8},        {"U8", 8},          {"I8", 8},   {"F8_E4M3", 8}, {"F8_E5M2", 8}, {"F8_E8M0", 8},
    {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16}, {"U16", 16},    {"F16", 16},    {"BF16", 16},
    {"I32", 32},        {"U32", 32},        {"F32", 32}, {"I64", 64},    {"U64", 64},    {"F64", 64},
    {"C64", 64},        {"F4", 4},          {"F6_E2M3", 6},              {"F6_E3M2", 6}};

/// A name from the file as part of a one-line message.
std::string legible(std::string_view name) {
  const bool plain = name.size() <= 200 && std::ranges::all_of(name, [](char c) { return c >= ' ' && c <= '~'; });
  return plain ? "'" + std::string(name) + "'" : "with an unprintable name";
}

std::string_view text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Checks that the header fits the file and looks like one.
std::string_view header_text(std::span<const std::byte> file, const std::string& where) {
  if (text(file).starts_with("version https://git-lfs"))
    throw Error(where + ": is a Git LFS pointer, not the file itself; run: git lfs pull");
  if (text(file).starts_with("GGUF"))
    throw Error(where + ": is a GGUF file, which is not read; download the model's .safetensors files");
  if (file.size() < length_bytes + 2)
    throw Error(where + ": is no safetensors file: it has only " + std::to_string(file.size()) +
                " bytes; download it again");
  std::uint64_t length = 0;
  for (std::size_t i = 0; i < length_bytes; ++i) length |= std::to_integer<std::uint64_t>(file[i]) << (8 * i);
  if (length > longest_header)
    throw Error(where + ": is no safetensors file: its header would have " + std::to_string(length) +
                " bytes, the most is " + std::to_string(longest_header));
  if (length > file.size() - length_bytes)
    throw Error(where + ": is truncated: the header has " + std::to_string(length) + " bytes, the whole file " +
                std::to_string(file.size()) + "; download it again");
  const std::string_view header = text(file.subspan(length_bytes, length));
  if (!header.starts_with('{')) throw Error(where + ": is no safetensors file: its header does not start with '{'");
  return header;
}

void require_texts(const Json& metadata) {
  for (const std::string& key : metadata.keys()) metadata.at(key).text();
}

/// Bytes that the shape needs.
std::size_t byte_size(const std::vector<index_t>& shape, std::size_t bits, const std::string& tensor) {
  constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
  for (const index_t size : shape) {
    if (size != 0 && bits > most / size) throw Error(tensor + " has a shape that overflows: " + shape_text(shape));
    bits *= size;
  }
  if (bits % 8 != 0) throw Error(tensor + " does not fill whole bytes: " + std::to_string(bits) + " bits");
  return bits / 8;
}

std::vector<index_t> shape_of(const Json& entry, const std::string& tensor) {
  const Json sizes = entry.at("shape");
  if (sizes.length() > most_axes) throw Error(tensor + " has more than " + std::to_string(most_axes) + " axes");
  std::vector<index_t> shape;
  for (index_t i = 0; i < sizes.length(); ++i) shape.push_back(sizes.at(i).size());
  return shape;
}

/// One entry of the header; `begin` still counts from the start of the data.
StoredTensor stored_tensor(const std::string& name, const Json& entry, std::size_t data_bytes,
                           const std::string& where) {
  const std::string tensor = where + ": tensor " + legible(name);
  const std::string dtype = entry.at("dtype").text();
  const auto bits = element_bits.find(dtype);
  if (bits == element_bits.end()) throw Error(tensor + " has a dtype that the format does not know: " + legible(dtype));
  const std::vector<index_t> shape = shape_of(entry, tensor);

  const Json offsets = entry.at("data_offsets");
  if (offsets.length() != 2)
    throw Error(tensor + " has " + std::to_string(offsets.length()) + " data_offsets, expected begin and end");
  const std::size_t begin = offsets.at(index_t{0}).size(), end = offsets.at(index_t{1}).size();
  const std::string range = std::to_string(begin) + " to " + std::to_string(end);
  if (begin > end) throw Error(tensor + " ends before it begins: bytes " + range);
  if (end > data_bytes)
    throw Error(tensor + " lies outside the file: bytes " + range + " of " + std::to_string(data_bytes) +
                "; the file may be truncated, download it again");
  const std::size_t bytes = byte_size(shape, bits->second, tensor);
  if (bytes != end - begin)
    throw Error(tensor + " of shape " + shape_text(shape) + " and dtype " + dtype + " needs " + std::to_string(bytes) +
                " bytes, its data_offsets give " + std::to_string(end - begin));
  return {name, dtype, shape, begin, bytes};
}

/// Sorts by position and demands that every byte of the data belongs to exactly one tensor.
void require_exact_cover(std::vector<StoredTensor>& tensors, std::size_t data_bytes, const std::string& where) {
  std::ranges::sort(tensors, {}, [](const StoredTensor& t) { return std::tie(t.begin, t.bytes); });
  std::size_t covered = 0;
  for (const StoredTensor& tensor : tensors) {
    if (tensor.begin != covered)
      throw Error(where + ": tensor " + legible(tensor.name) + " begins at byte " + std::to_string(tensor.begin) +
                  (tensor.begin < covered ? ", inside the tensor before it, which ends at "
                                          : ", after a hole: the tensor before it ends at ") +
                  std::to_string(covered));
    covered += tensor.bytes;
  }
  if (covered != data_bytes)
    throw Error(where + ": has " + std::to_string(data_bytes - covered) + " bytes after the last tensor");
}

}  // namespace

std::vector<StoredTensor> safetensors_contents(std::span<const std::byte> file, const std::string& where) {
  const std::string_view header = header_text(file, where);
  const std::size_t data_start = length_bytes + header.size(), data_bytes = file.size() - data_start;
  const Json entries = Json::parse(header, where + ": header");
  std::vector<StoredTensor> tensors;
  for (const std::string& key : entries.keys()) {
    if (key == "__metadata__") require_texts(entries.at(key));
    else tensors.push_back(stored_tensor(key, entries.at(key), data_bytes, where));
  }
  require_exact_cover(tensors, data_bytes, where);
  for (StoredTensor& tensor : tensors) tensor.begin += data_start;
  return tensors;
}

}  // namespace kv
