/// Any bytes as a .npy file: the reader says Error, or the shape it found is what the data has.
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "common/files/error.hpp"
#include "common/files/npy.hpp"

namespace {

void require(bool condition) {
  if (!condition) std::abort();  // libFuzzer keeps the input
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const std::span file(reinterpret_cast<const std::byte*>(data), size);
    const kv::NpyContents contents = kv::npy_contents(file, "fuzz");
    double elements = 1;  // does not wrap round
    for (const kv::index_t axis : contents.shape) elements *= static_cast<double>(axis);
    require(elements * 4 == static_cast<double>(contents.data.size()));
    require(contents.data.data() + contents.data.size() == file.data() + file.size());
  } catch (const kv::Error& error) {
    require(std::strlen(error.what()) < 2000 && std::strchr(error.what(), '\n') == nullptr);
  }
  return 0;
}
