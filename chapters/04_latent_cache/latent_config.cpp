#include "chapters/04_latent_cache/latent_config.hpp"

#include "common/files/error.hpp"
#include "common/tensor/rope.hpp"

namespace kv {
namespace {

index_t positive(const Json& config, std::string_view key) {
  const Json value = config.at(key);
  const index_t size = value.size();
  if (size == 0 || size > (index_t{1} << 24))
    throw Error(value.where() + " is " + std::to_string(size) + "; it must be positive and at most 2^24");
  return size;
}

}  // namespace

LatentSizes latent_sizes(const Json& config) {
  LatentSizes sizes{.width = positive(config, "hidden_size"),
                    .heads = positive(config, "num_attention_heads"),
                    .rank = positive(config, "kv_lora_rank"),
                    .rope_width = positive(config, "qk_rope_head_dim"),
                    .plain_width = positive(config, "qk_nope_head_dim"),
                    .value_width = positive(config, "v_head_dim"),
                    .query_rank = {}};
  if (sizes.rope_width % 2 != 0)
    throw Error(config.at("qk_rope_head_dim").where() + " is " + std::to_string(sizes.rope_width) +
                "; RoPE turns pairs, so it must be even");
  if (config.has("q_lora_rank")) sizes.query_rank = positive(config, "q_lora_rank");
  if (config.has("rope_interleave") && !config.at("rope_interleave").flag())
    throw Error(config.at("rope_interleave").where() + " is false; only interleaved RoPE is supported here");
  return sizes;
}

float softmax_factor(const Json& config) {
  if (!has_rope_scaling(config) || !rope_scaling(config).has("mscale_all_dim")) return 1.0f;
  const Json scaling = rope_scaling(config);
  const double m = yarn_magnitude(scaling.at("factor").number(), scaling.at("mscale_all_dim").number());
  return static_cast<float>(m * m);
}

}  // namespace kv
