#include "chapters/models/grouped_config.hpp"

#include "chapters/models/architectures.hpp"
#include "chapters/models/config_field.hpp"
#include "common/files/error.hpp"

namespace kv {

GroupedConfig grouped_config(const Json& config) {
  const index_t M = size_field(config, "hidden_size"), H = size_field(config, "num_attention_heads");
  const index_t G = size_field(config, "num_key_value_heads", H);
  if (H % G != 0)
    throw Error(config.where() + ": num_attention_heads is " + std::to_string(H) +
                ", no multiple of num_key_value_heads, " + std::to_string(G));
  if (!config.has("head_dim") && M % H != 0)
    throw Error(config.where() + ": hidden_size is " + std::to_string(M) + ", no multiple of num_attention_heads, " +
                std::to_string(H) + ", and there is no head_dim");
  const index_t D = size_field(config, "head_dim", M / H);
  return {.heads = {H, G, D, D}, .head_norms = architecture(config).head_norms};
}

}  // namespace kv
