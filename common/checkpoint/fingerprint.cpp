#include "common/checkpoint/fingerprint.hpp"

#include <fstream>
#include <iterator>

namespace kv {

/// FNV-1a.
std::uint64_t fingerprint(std::string_view text, std::uint64_t before) {
  for (const char c : text) before = (before ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return before;
}

std::uint64_t fingerprint(const Checkpoint& checkpoint) {
  std::ifstream config(checkpoint.directory() / "config.json", std::ios::binary);
  std::uint64_t result = fingerprint(std::string(std::istreambuf_iterator<char>(config), {}));
  for (const std::string& name : checkpoint.names()) {
    const RawTensor tensor = checkpoint.raw(name);
    result = fingerprint(name + tensor.dtype + shape_text(tensor.shape), result);
    const std::string_view data(reinterpret_cast<const char*>(tensor.data.data()), tensor.data.size());
    for (const std::size_t part : {0, 1, 2}) result = fingerprint(data.substr(data.size() * part / 3, 64), result);
  }
  return result;
}

}  // namespace kv
