/// Any bytes as config.json: each reader of it says Error, or gives sizes that can be multiplied. Beside it lie the tensors of a
/// shipped model, so what the readers of tensors ask for is either there or refused by name.
#include <cmath>
#include <filesystem>

#include "chapters/models/cache_bytes.hpp"
#include "chapters/models/family.hpp"
#include "chapters/models/grouped_config.hpp"
#include "chapters/models/latent_config.hpp"
#include "chapters/models/mixture_config.hpp"
#include "chapters/models/model_sizes.hpp"
#include "chapters/models/model_tensors.hpp"
#include "chapters/models/quantization_config.hpp"
#include "chapters/models/rope_config.hpp"
#include "chapters/models/window_config.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace {

using namespace kv;
using fuzz::read_or_refuse, fuzz::require;

void read(const Json& config) {
  const ModelSizes sizes = model_sizes(config);
  require(sizes.layers > 0 && sizes.vocabulary > 0 && sizes.context > 0);
  read_or_refuse([&] { require_known_quantization(config); });
  read_or_refuse([&] { layouts(config); });
  read_or_refuse([&] { require(attention_window(config, sizes.layers - 1) > 0); });
  read_or_refuse([&] { require(std::isfinite(softmax_factor(config))); });
  read_or_refuse([&] { rope_config(config, 64); });
  read_or_refuse([&] { require(feed_forward_cost(config).active_parameters > 0); });
  read_or_refuse([&] { routing_rule(config); });
  if (family(config) == Family::mla)
    read_or_refuse([&] { require(latent_config(config).sizes.row_width() > 0); });
  else
    read_or_refuse([&] { require(grouped_config(config).heads.key_value_heads > 0); });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fuzz::Folder folder;
  static const bool linked = [] {
    std::filesystem::create_symlink(KV_DATA "/tiny-mla/model.safetensors", folder.path() / "model.safetensors");
    return true;
  }();
  require(linked);
  const std::string_view text = fuzz::text_of(data, size);
  read_or_refuse([&] { read(Json::parse(text, "fuzz")); });
  folder.write("config.json", text);
  read_or_refuse([&] { require(!multiplied(model_tensors(Checkpoint(folder.path()))).empty()); });
  return 0;
}
