#include "chapters/models/family.hpp"

#include "chapters/models/config_field.hpp"
#include "chapters/models/grouped_config.hpp"
#include "chapters/models/model_sizes.hpp"
#include "chapters/models/quantization_config.hpp"
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

void require_full_attention(const Json& config) {
  const std::optional<index_t> window = sliding_window(config);
  const index_t context = model_sizes(config).context;
  if (window && *window < context)
    throw Error(config.where() + ": sliding_window is " + std::to_string(*window) + ", shorter than the context of " +
                std::to_string(context) + "; sliding windows are not supported");
  for (index_t i = 0; config.has("layer_types") && i < config.at("layer_types").length(); ++i)
    if (const Json type = config.at("layer_types").at(i); type.text() != "full_attention")
      throw Error(type.where() + " is '" + type.text() + "'; only full_attention is supported");
}

/// Options that would change the result and that the book does not compute.
void require_known_options(const Json& config) {
  if (const std::string act = text_field(config, "hidden_act", "silu"); act != "silu")
    throw Error(config.at("hidden_act").where() + " is '" + act + "'; only silu is supported");
  if (config.has("per_layer_config"))
    throw Error(config.at("per_layer_config").where() + " is set; layers that differ like this are not supported");
  require_known_biases(config);
  require_full_attention(config);
  require_known_quantization(config);
}

}  // namespace

Family family(const Json& config) {
  const Architecture& found = architecture(config);
  require_known_options(config);
  return found.family;
}

}  // namespace kv
