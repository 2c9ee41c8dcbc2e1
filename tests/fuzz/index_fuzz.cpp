/// Any bytes as model.safetensors.index.json beside two shards of one tensor each: the checkpoint says Error, or every name
/// that it gives has its bytes.
#include "common/checkpoint/checkpoint.hpp"
#include "common/checkpoint/safetensors_writer.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace {

using namespace kv;

std::string shard(const std::string& name) {
  std::string header = "{\"" + name + "\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";
  std::string file(8, '\0');
  file[0] = static_cast<char>(header.size());
  return file + header + "\0\0\0\0\0\0\0\0";
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fuzz::Folder folder;
  static const bool written = [] {
    folder.write("config.json", "{}");
    folder.write("one.safetensors", shard("a"));
    folder.write("two.safetensors", shard("b"));
    return true;
  }();
  fuzz::require(written);
  folder.write("model.safetensors.index.json", fuzz::text_of(data, size));
  fuzz::read_or_refuse([] {
    const Checkpoint checkpoint(folder.path());
    for (const std::string& name : checkpoint.names()) fuzz::require((name == "a" || name == "b") && checkpoint.vector(name, 2)(0) == 0.0f);
  });
  return 0;
}
