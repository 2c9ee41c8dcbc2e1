#include "chapters/models/window_config.hpp"

#include <optional>

#include "chapters/01_uncached_attention/row_source.hpp"
#include "chapters/models/architectures.hpp"
#include "chapters/models/config_field.hpp"
#include "chapters/models/rope_config.hpp"
#include "common/files/error.hpp"

namespace kv {
namespace {

/// Many models carry a sliding_window that they do not use.
bool is_used(const Json& config, WindowKind kind) {
  if (kind == WindowKind::none) return false;
  return kind == WindowKind::every_layer || flag_field(config, "use_sliding_window");
}

/// Null, and to Mixtral absent, means none.
std::optional<index_t> window_size(const Json& config) {
  if (config.contains("sliding_window") && !config.has("sliding_window")) return std::nullopt;
  const index_t window = size_field(config, "sliding_window");
  return window == 0 ? std::nullopt : std::optional(window);
}

// [slides]
/// Which layers slide where the config does not list them.
bool slides(const Json& config, WindowKind kind, index_t layer) {
  const auto boundary = [&] { return size_field(config, "max_window_layers", 0); };
  switch (kind) {
    case WindowKind::none: return false;
    case WindowKind::every_layer:
    case WindowKind::every_layer_if_used: return true;
    case WindowKind::later_layers: return layer >= boundary();
    case WindowKind::even_early_layers: return layer % 2 == 0 && layer < boundary();
  }
  return false;
}
// [slides]

bool lists_layers(WindowKind kind) { return kind == WindowKind::later_layers || kind == WindowKind::even_early_layers; }

/// One word for each layer.
bool slides_by_list(const Json& config, index_t layer) {
  const Json types = config.at("layer_types");
  const index_t layers = size_field(config, "num_hidden_layers");
  if (types.length() != layers)
    throw Error(types.where() + " has " + std::to_string(types.length()) + " words for " + std::to_string(layers) + " layers");
  const Json type = types.at(layer);
  const std::string word = type.text();
  if (word == "sliding_attention") return true;
  if (word == "full_attention" || word == "attention") return false;
  throw Error(type.where() + " is '" + word + "'; only full_attention and sliding_attention are supported");
}

/// A window that the architecture does not look at, and that whoever wrote it may have counted on.
void require_no_window(const Json& config) {
  if (!config.has("sliding_window") || (config.contains("use_sliding_window") && !flag_field(config, "use_sliding_window"))) return;
  const index_t window = size_field(config, "sliding_window"), context = context_length(config);
  if (window < context)
    throw Error(config.where() + ": sliding_window is " + std::to_string(window) + ", shorter than the context of " +
                std::to_string(context) + "; " + std::string(architecture(config).name) + " has no window");
}

}  // namespace

index_t attention_window(const Json& config, index_t layer) {
  const WindowKind kind = architecture(config).window;
  if (kind == WindowKind::none) require_no_window(config);
  const std::optional<index_t> window = is_used(config, kind) ? window_size(config) : std::nullopt;
  const bool listed = config.has("layer_types"), in_list = listed && slides_by_list(config, layer);
  const bool slide = listed && lists_layers(kind) ? in_list : window && slides(config, kind, layer);
  if (listed && in_list != slide)
    throw Error(config.at("layer_types").at(layer).where() + " says otherwise than " + std::string(architecture(config).name) +
                " attends, which does not look at layer_types");
  if (slide && !window)
    throw Error(config.at("layer_types").at(layer).where() + " is sliding_attention, but no sliding_window is in use");
  return slide ? *window : no_window;
}

}  // namespace kv
