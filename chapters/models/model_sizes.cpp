#include "chapters/models/model_sizes.hpp"

#include "chapters/models/config_field.hpp"
#include "chapters/models/rope_config.hpp"

namespace kv {

ModelSizes model_sizes(const Json& config) {
  return {.layers = size_field(config, "num_hidden_layers"),
          .width = size_field(config, "hidden_size"),
          .feed_forward_width = size_field(config, "intermediate_size"),
          .vocabulary = size_field(config, "vocab_size"),
          .context = context_length(config),
          .norm_epsilon = static_cast<float>(number_field(config, "rms_norm_eps", {0.0, 1.0})),
          .tied_embeddings = flag_field(config, "tie_word_embeddings")};
}

}  // namespace kv
