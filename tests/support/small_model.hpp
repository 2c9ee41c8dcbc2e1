#pragma once
/// @file
/// A tiny random checkpoint of the Llama or Qwen3 kind, written to a directory of its own in the published layout.
#include <map>
#include <string>
#include <vector>

#include "common/checkpoint/checkpoint.hpp"
#include "tests/support/temporary.hpp"

namespace kv::test {

/// One tensor of a safetensors file that is well formed.
struct FileTensor {
  std::string name;
  DType type;  // f32, bf16, f16
  std::vector<index_t> shape;
  std::vector<float> values;  // rounded to the type
};
std::string safetensors_file(const std::vector<FileTensor>& tensors);

/// No two sizes are alike, so that swapped axes show.
struct SmallModel {
  bool qwen3 = false;  // norms on the heads
  index_t layers = 2, width = 40, query_heads = 6, key_value_heads = 2, head_width = 10, feed_forward_width = 56,
          vocabulary = 61, context = 96;
  DType type = DType::f32;
  bool tied = false;
  unsigned seed = 1;
  std::vector<FileTensor> more = {};  ///< tensors beside its own
  std::map<std::string, std::string> config = {};  ///< members of config.json to add or replace, as JSON; "" leaves one out
};

/// Lives as long as its directory is needed.
class SmallCheckpoint {
 public:
  explicit SmallCheckpoint(const SmallModel& model = {});
  const std::filesystem::path& path() const { return directory_.path(); }
  const TemporaryDirectory& directory() const { return directory_; }
  Checkpoint open() const { return Checkpoint(path()); }

 private:
  TemporaryDirectory directory_;
};

}  // namespace kv::test
