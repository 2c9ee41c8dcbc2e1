#include "chapters/models/family.hpp"

#include "chapters/models/config_field.hpp"
#include "chapters/models/quantization_config.hpp"
#include "chapters/models/window_config.hpp"
#include "common/files/error.hpp"

namespace kv {
namespace {

/// Flags that the architecture's own code does not look at.
void require_known_biases(const Json& config) {
  const Architecture& found = architecture(config);
  const bool attention = found.biases == BiasKind::by_attention_bias, feed_forward = found.feed_forward_biases;
  for (const auto& [key, known] : {std::pair("attention_bias", attention), std::pair("mlp_bias", feed_forward)})
    if (!known && flag_field(config, key))
      throw Error(config.at(key).where() + " is true; " + std::string(found.name) + " has no such biases");
}

void require_known_windows(const Json& config) {
  attention_window(config, 0);  // of the others only the words differ
  for (index_t layer = 1; config.has("layer_types") && layer < config.at("layer_types").length(); ++layer)
    attention_window(config, layer);
}

/// Options that would change the result and that the book does not compute.
void require_known_options(const Json& config) {
  if (const std::string act = text_field(config, "hidden_act", "silu"); act != "silu")
    throw Error(config.at("hidden_act").where() + " is '" + act + "'; only silu is supported");
  if (config.has("per_layer_config"))
    throw Error(config.at("per_layer_config").where() + " is set; layers that differ like this are not supported");
  require_known_biases(config);
  require_known_windows(config);
  require_known_quantization(config);
}

}  // namespace

Family family(const Json& config) {
  const Architecture& found = architecture(config);
  require_known_options(config);
  return found.family;
}

}  // namespace kv
