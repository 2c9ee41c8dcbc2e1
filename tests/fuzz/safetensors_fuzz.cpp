/// Any bytes as a safetensors file: the reader says Error, or what it found is inside the file.
#include <algorithm>

#include "common/checkpoint/safetensors.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace {

using kv::fuzz::require;

void read(std::span<const std::byte> file) {
  kv::fuzz::read_or_refuse([&] {
    std::size_t covered = 0, last_end = 0;
    for (const kv::StoredTensor& tensor : kv::safetensors_contents(file, "fuzz")) {
      require(tensor.begin <= file.size() && tensor.bytes <= file.size() - tensor.begin);
      require(tensor.begin >= 10 && (last_end == 0 || tensor.begin == last_end));
      last_end = tensor.begin + tensor.bytes;
      covered += tensor.bytes;
    }
    require(covered <= file.size() - 10 && (last_end == 0 || last_end == file.size()));
  });
}

}  // namespace

/// The bytes as they are, and again as header and data (cut at the first zero byte) behind a length that is true:
/// by itself a fuzzer seldom finds the eight bytes that fit.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span bytes(reinterpret_cast<const std::byte*>(data), size);
  read(bytes);

  const std::size_t header = static_cast<std::size_t>(std::find(data, data + size, 0) - data);
  std::vector<std::byte> file(8);
  for (std::size_t i = 0; i < 8; ++i) file[i] = static_cast<std::byte>(header >> (8 * i) & 0xff);
  file.insert(file.end(), bytes.begin(), bytes.end());
  if (header < size) file.erase(file.begin() + 8 + static_cast<std::ptrdiff_t>(header));
  read(file);
  return 0;
}
