#include "chapters/models/latent_config.hpp"

#include "chapters/models/config_field.hpp"
#include "common/files/error.hpp"

namespace kv {

LatentConfig latent_config(const Json& config) {
  LatentSizes sizes{.width = size_field(config, "hidden_size"),
                    .heads = size_field(config, "num_attention_heads"),
                    .rank = size_field(config, "kv_lora_rank"),
                    .rope_width = size_field(config, "qk_rope_head_dim"),
                    .plain_width = size_field(config, "qk_nope_head_dim"),
                    .value_width = size_field(config, "v_head_dim"),
                    .query_rank = {}};
  if (sizes.rope_width % 2 != 0)
    throw Error(config.at("qk_rope_head_dim").where() + " is " + std::to_string(sizes.rope_width) +
                "; RoPE turns pairs, so it must be even");
  if (!config.at("q_lora_rank").is_null()) sizes.query_rank = size_field(config, "q_lora_rank");
  if (!flag_field(config, "rope_interleave"))
    throw Error(config.at("rope_interleave").where() + " is false; only interleaved RoPE is supported here");
  return {sizes, flag_field(config, "attention_bias")};
}

}  // namespace kv
