/// Any bytes as a .npy file: the reader says Error, or the shape it found is what the data has.
#include "common/files/npy.hpp"
#include "tests/fuzz/fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  kv::fuzz::read_or_refuse([&] {
    const std::span file(reinterpret_cast<const std::byte*>(data), size);
    const kv::NpyContents contents = kv::npy_contents(file, "fuzz");
    double elements = 1;  // does not wrap round
    for (const kv::index_t axis : contents.shape) elements *= static_cast<double>(axis);
    kv::fuzz::require(elements * 4 == static_cast<double>(contents.data.size()));
    kv::fuzz::require(contents.data.data() + contents.data.size() == file.data() + file.size());
  });
  return 0;
}
