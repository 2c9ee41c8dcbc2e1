#include "chapters/models/architectures.hpp"

#include <array>

#include "chapters/models/mixture_config.hpp"
#include "common/files/error.hpp"

namespace kv {
namespace {

struct Architecture {
  std::string_view name;  // config.json: architectures[0]
  Family family;
  bool norms_heads;  // a norm on every query and key head
};

constexpr std::array architectures{
    Architecture{"LlamaForCausalLM", Family::gqa, false},
    Architecture{"Qwen3ForCausalLM", Family::gqa, true},
    Architecture{"MixtralForCausalLM", Family::gqa, false},
    Architecture{"Qwen3MoeForCausalLM", Family::gqa, true},
    Architecture{"DeepseekV2ForCausalLM", Family::mla, false},
    Architecture{"DeepseekV3ForCausalLM", Family::mla, false},
};

const Architecture& architecture(const Json& config) {
  const Json names = config.at("architectures");
  const std::string found = names.length() == 0 ? "" : names.at(index_t{0}).text();
  std::string known;
  for (const Architecture& each : architectures) {
    if (each.name == found) return each;
    known += (known.empty() ? "" : ", ") + std::string(each.name);
  }
  throw Error(names.where() + ": architecture '" + found + "' is not supported (supported: " + known + ")");
}

/// Weights in e4m3 with one scale per block, as DeepSeek-V3 is published. The checkpoint checks the size of the blocks.
void require_block_scales(const Json& quantization) {
  if (!quantization.has("weight_block_size"))
    throw Error(quantization.where() + ": fp8 is supported with weight_block_size only");
}

void require_text(const Json& object, std::string_view key, std::string_view expected) {
  const Json value = object.at(key);
  if (value.text() != expected)
    throw Error(value.where() + " is '" + value.text() + "'; of compressed-tensors, only 8-bit integers with one scale per "
                "output and no zero points are supported (format int-quantized, type int, strategy channel, symmetric)");
}

/// Weights in i8 with one scale per output, as compressed-tensors writes them. What the config says about activations is
/// not looked at: they stay in f32, which is at least as exact. The checkpoint checks scales and zero points.
void require_row_scales(const Json& quantization) {
  require_text(quantization, "format", "int-quantized");
  if (quantization.has("kv_cache_scheme"))
    throw Error(quantization.at("kv_cache_scheme").where() + " is set; a quantised cache is not supported");
  if (quantization.has("transform_config") && !quantization.at("transform_config").keys().empty())
    throw Error(quantization.at("transform_config").where() + " is set; transformed weights are not supported");
  const Json groups = quantization.at("config_groups");
  for (const std::string& key : groups.keys()) {
    const Json group = groups.at(key), weights = group.at("weights");
    if (group.has("format")) require_text(group, "format", "int-quantized");
    require_text(weights, "type", "int");
    require_text(weights, "strategy", "channel");
    if (weights.at("num_bits").size() != 8)
      throw Error(weights.at("num_bits").where() + " is " + std::to_string(weights.at("num_bits").size()) + "; only 8 is supported");
    if (!weights.at("symmetric").flag())
      throw Error(weights.at("symmetric").where() + " is false; zero points are not supported");
  }
}

/// How the weights were rounded, if they were.
void require_known_rounding(const Json& quantization) {
  const Json method = quantization.at("quant_method");
  if (method.text() == "fp8") return require_block_scales(quantization);
  if (method.text() == "compressed-tensors") return require_row_scales(quantization);
  throw Error(method.where() + " is '" + method.text() + "'; of quantised checkpoints, fp8 with weight_block_size and "
              "8-bit integers of compressed-tensors are supported");
}

/// Options that would change the result and that the book does not compute.
void require_known_options(const Json& config) {
  for (const char* flag : {"attention_bias", "mlp_bias", "use_sliding_window"})
    if (config.has(flag) && config.at(flag).flag())
      throw Error(config.at(flag).where() + " is true; this option is not supported");
  if (config.has("sliding_window") && !config.has("use_sliding_window"))
    throw Error(config.at("sliding_window").where() + " is set; sliding windows are not supported");
  if (config.has("hidden_act") && config.at("hidden_act").text() != "silu")
    throw Error(config.at("hidden_act").where() + " is '" + config.at("hidden_act").text() + "'; only silu is supported");
  if (config.has("quantization_config")) require_known_rounding(config.at("quantization_config"));
  if (config.has("partial_rotary_factor") && config.at("partial_rotary_factor").number() != 1.0)
    throw Error(config.at("partial_rotary_factor").where() + " is not 1; this option is not supported");
}

index_t positive(const Json& config, std::string_view key) {
  const Json value = config.at(key);
  const index_t size = value.size();
  if (size == 0 || size > (index_t{1} << 31)) throw Error(value.where() + " is " + std::to_string(size) + "; it must be positive and below 2^31");
  return size;
}

std::string layer_prefix(index_t layer) { return "model.layers." + std::to_string(layer) + "."; }

}  // namespace

std::string_view name(Family family) {
  switch (family) {
    case Family::gqa: return "GQA";
    case Family::mla: return "MLA";
  }
  return "?";
}

Family family(const Json& config) {
  const Architecture& found = architecture(config);
  require_known_options(config);
  return found.family;
}

ModelSizes model_sizes(const Json& config) {
  const double epsilon = config.at("rms_norm_eps").number();
  if (!(epsilon >= 0.0 && epsilon < 1.0)) throw Error(config.at("rms_norm_eps").where() + " must lie between 0 and 1");
  return {.layers = positive(config, "num_hidden_layers"),
          .width = positive(config, "hidden_size"),
          .feed_forward_width = positive(config, "intermediate_size"),
          .vocabulary = positive(config, "vocab_size"),
          .context = positive(config, "max_position_embeddings"),
          .norm_epsilon = static_cast<float>(epsilon),
          .tied_embeddings = config.has("tie_word_embeddings") && config.at("tie_word_embeddings").flag()};
}

HeadSizes grouped_sizes(const Json& config) {
  const index_t H = positive(config, "num_attention_heads");
  const index_t G = config.has("num_key_value_heads") ? positive(config, "num_key_value_heads") : H;
  if (H % G != 0)
    throw Error(config.where() + ": num_attention_heads is " + std::to_string(H) +
                ", no multiple of num_key_value_heads, " + std::to_string(G));
  const index_t M = positive(config, "hidden_size");
  if (!config.has("head_dim") && M % H != 0)
    throw Error(config.where() + ": hidden_size is " + std::to_string(M) + ", no multiple of num_attention_heads, " +
                std::to_string(H) + ", and there is no head_dim");
  const index_t D = config.has("head_dim") ? positive(config, "head_dim") : M / H;
  return {H, G, D, D};
}

GroupedNames grouped_names(const Json& config, index_t layer) {
  const HeadSizes sizes = grouped_sizes(config);
  const index_t M = positive(config, "hidden_size"), D = sizes.key_width;
  const index_t queries = sizes.query_heads * D, stored = sizes.key_value_heads * D;
  const std::string prefix = layer_prefix(layer) + "self_attn.";
  const bool norms = architecture(config).norms_heads;
  return {.query = {prefix + "q_proj.weight", queries, M},
          .key = {prefix + "k_proj.weight", stored, M},
          .value = {prefix + "v_proj.weight", stored, M},
          .output = {prefix + "o_proj.weight", M, queries},
          .query_norm = norms ? prefix + "q_norm.weight" : "",
          .key_norm = norms ? prefix + "k_norm.weight" : ""};
}

LatentNames latent_names(const Json& config, index_t layer) {
  const LatentSizes sizes = latent_sizes(config);
  const index_t M = sizes.width, H = sizes.heads, R = sizes.rank, queries = H * sizes.key_width();
  const std::string prefix = layer_prefix(layer) + "self_attn.";
  LatentNames names{.query_down = {},
                    .query_norm = {},
                    .query_up = {prefix + "q_proj.weight", queries, M},
                    .latent_down = {prefix + "kv_a_proj_with_mqa.weight", sizes.row_width(), M},
                    .latent_norm = prefix + "kv_a_layernorm.weight",
                    .latent_up = {prefix + "kv_b_proj.weight", H * (sizes.plain_width + sizes.value_width), R},
                    .output = {prefix + "o_proj.weight", M, H * sizes.value_width}};
  if (sizes.query_rank) {
    names.query_down = {prefix + "q_a_proj.weight", *sizes.query_rank, M};
    names.query_norm = prefix + "q_a_layernorm.weight";
    names.query_up = {prefix + "q_b_proj.weight", queries, *sizes.query_rank};
  }
  return names;
}

SwiGluNames dense_names(const Json& config, index_t layer) {
  const ModelSizes sizes = model_sizes(config);
  const index_t M = sizes.width, F = sizes.feed_forward_width;
  const std::string prefix = layer_prefix(layer) + "mlp.";
  return {{prefix + "gate_proj.weight", F, M}, {prefix + "up_proj.weight", F, M}, {prefix + "down_proj.weight", M, F}};
}

namespace {

std::shared_ptr<const Linear> linear(const Checkpoint& checkpoint, const MatrixName& matrix) {
  return checkpoint.linear(matrix.name, matrix.rows, matrix.columns);
}

std::shared_ptr<const HeadProjection> grouped_projection(const Checkpoint& checkpoint, index_t layer) {
  const Json& config = checkpoint.config();
  const HeadSizes sizes = grouped_sizes(config);
  const GroupedNames names = grouped_names(config, layer);
  GroupedProjection::Weights weights{.query = linear(checkpoint, names.query),
                                     .key = linear(checkpoint, names.key),
                                     .value = linear(checkpoint, names.value),
                                     .output = linear(checkpoint, names.output),
                                     .query_norm = {},
                                     .key_norm = {},
                                     .norm_epsilon = model_sizes(config).norm_epsilon};
  if (!names.query_norm.empty()) {
    weights.query_norm = checkpoint.vector(names.query_norm, sizes.key_width);
    weights.key_norm = checkpoint.vector(names.key_norm, sizes.key_width);
  }
  return std::make_shared<GroupedProjection>(std::move(weights), sizes, read_rope(config, sizes.key_width));
}

}  // namespace

std::shared_ptr<const HeadProjection> head_projection(const Checkpoint& checkpoint, index_t layer) {
  switch (architecture(checkpoint.config()).family) {
    case Family::gqa: return grouped_projection(checkpoint, layer);
    case Family::mla: return latent_projection(checkpoint, layer);
  }
  return nullptr;
}

std::shared_ptr<const LatentProjection> latent_projection(const Checkpoint& checkpoint, index_t layer) {
  const Json& config = checkpoint.config();
  const LatentSizes sizes = latent_sizes(config);
  const LatentNames names = latent_names(config, layer);
  const index_t query_rank = sizes.query_rank.value_or(0);
  LatentProjection::Weights weights{
      .query_down = names.query_down ? linear(checkpoint, *names.query_down) : nullptr,
      .query_norm = names.query_down ? checkpoint.vector(names.query_norm, query_rank) : empty<1>({0}),
      .query_up = linear(checkpoint, names.query_up),
      .latent_down = linear(checkpoint, names.latent_down),
      .latent_norm = checkpoint.vector(names.latent_norm, sizes.rank),
      .latent_up = linear(checkpoint, names.latent_up),
      .output = linear(checkpoint, names.output)};
  return std::make_shared<LatentProjection>(std::move(weights), sizes, read_rope(config, sizes.rope_width),
                                            softmax_factor(config));
}

Absorption absorption(const Checkpoint& checkpoint, index_t layer) {
  const auto [name, rows, columns] = latent_names(checkpoint.config(), layer).latent_up;
  return Absorption(checkpoint.matrix(name, rows, columns), latent_sizes(checkpoint.config()));
}

std::shared_ptr<const FeedForward> feed_forward(const Checkpoint& checkpoint, index_t layer) {
  if (is_mixture(checkpoint.config(), layer)) return std::make_shared<Mixture>(mixture_parts(checkpoint, layer));
  const SwiGluNames names = dense_names(checkpoint.config(), layer);
  return std::make_shared<DenseFeedForward>(linear(checkpoint, names.gate), linear(checkpoint, names.up), linear(checkpoint, names.down));
}

}  // namespace kv
