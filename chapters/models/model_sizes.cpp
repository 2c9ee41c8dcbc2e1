#include "chapters/models/model_sizes.hpp"

#include "chapters/models/config_field.hpp"
#include "chapters/models/rope_config.hpp"
#include "common/files/error.hpp"

namespace kv {

namespace {

/// Far more than any model has, and few enough to be counted.
constexpr index_t most_layers = 65536;

index_t layer_count(const Json& config) {
  const index_t layers = size_field(config, "num_hidden_layers");
  if (layers > most_layers)
    throw Error(config.at("num_hidden_layers").where() + " is " + std::to_string(layers) + "; it must be at most " +
                std::to_string(most_layers));
  return layers;
}

}  // namespace

ModelSizes model_sizes(const Json& config) {
  return {.layers = layer_count(config),
          .width = size_field(config, "hidden_size"),
          .feed_forward_width = size_field(config, "intermediate_size"),
          .vocabulary = size_field(config, "vocab_size"),
          .context = context_length(config),
          .norm_epsilon = static_cast<float>(number_field(config, "rms_norm_eps", {0.0, 1.0})),
          .tied_embeddings = flag_field(config, "tie_word_embeddings")};
}

}  // namespace kv
