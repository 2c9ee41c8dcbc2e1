#include "chapters/models/grouped_config.hpp"

#include "chapters/models/architectures.hpp"
#include "chapters/models/config_field.hpp"
#include "common/files/error.hpp"

namespace kv {
namespace {

/// H query heads may have fewer key/value heads; null, and to Llama absent, means as many.
index_t key_value_heads(const Json& config, index_t H) {
  const char* const key = "num_key_value_heads";
  const bool given = config.has(key) || (!config.contains(key) && default_of(config, key));
  const index_t G = given ? size_field(config, key) : H;
  if (H % G == 0) return G;
  throw Error(config.where() + ": num_attention_heads is " + std::to_string(H) + ", no multiple of num_key_value_heads, " +
              std::to_string(G));
}

index_t head_width(const Json& config, index_t H) {
  if (config.has("head_dim") || (!config.contains("head_dim") && default_of(config, "head_dim"))) return size_field(config, "head_dim");
  const index_t M = size_field(config, "hidden_size");
  if (M % H == 0) return M / H;
  throw Error(config.where() + ": hidden_size is " + std::to_string(M) + ", no multiple of num_attention_heads, " +
              std::to_string(H) + ", and there is no head_dim");
}

}  // namespace

GroupedConfig grouped_config(const Json& config) {
  const Architecture& found = architecture(config);
  const index_t H = size_field(config, "num_attention_heads"), D = head_width(config, H);
  const bool everywhere = found.biases == BiasKind::by_attention_bias && flag_field(config, "attention_bias");
  return {.heads = {H, key_value_heads(config, H), D, D},
          .head_norms = found.head_norms,
          .input_biases = everywhere || (found.biases == BiasKind::queries_keys_values && flag_field(config, "qkv_bias")),
          .output_bias = everywhere};
}

}  // namespace kv
