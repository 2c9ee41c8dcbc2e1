#include "chapters/models/model_tensors.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>

#include "chapters/models/family.hpp"
#include "chapters/models/grouped_config.hpp"
#include "chapters/models/latent_config.hpp"
#include "chapters/models/mixture_config.hpp"
#include "chapters/models/model_sizes.hpp"
#include "chapters/models/quantization_config.hpp"
#include "chapters/models/rope_config.hpp"
#include "chapters/models/window_config.hpp"
#include "common/files/error.hpp"

namespace kv {
namespace {

/// Tensors that change nothing: angles that are computed here, scales of activations that stay in f32.
constexpr std::array harmless{".rotary_emb.inv_freq", ".input_scale", ".output_scale"};

/// "a.b" of "a.b.weight".
std::string module_of(const std::string& tensor) { return tensor.substr(0, tensor.rfind('.')); }

/// Reads a checkpoint's tensors by name, and knows which ones.
class Reader {
 public:
  explicit Reader(const Checkpoint& checkpoint)
      : checkpoint_(checkpoint), base_(checkpoint.has("embed_tokens.weight") ? "" : "model.") {}

  const Json& config() const { return checkpoint_.config(); }
  const std::filesystem::path& directory() const { return checkpoint_.directory(); }
  /// "model.", or nothing in a file that was saved without its output matrix.
  const std::string& base() const { return base_; }
  std::string layer(index_t number) const { return base_ + "layers." + std::to_string(number) + "."; }

  bool has(const std::string& name) const { return checkpoint_.has(name); }
  MatrixView matrix(const std::string& module, index_t rows, index_t columns) {
    const std::string name = module + ".weight";
    for (const char* scales : {"", "_scale_inv", "_scale"}) read_.insert(name + scales);
    return checkpoint_.matrix(name, rows, columns);
  }
  LinearView linear(const std::string& module, index_t outputs, index_t inputs, bool biased) {
    const MatrixView weight = matrix(module, outputs, inputs);
    if (!biased) return weight;
    read_.insert(module + ".bias");
    return {weight, checkpoint_.vector_view(module + ".bias", outputs)};
  }
  std::vector<MatrixView> matrices(const std::string& name, index_t count, index_t rows, index_t columns) {
    read_.insert(name);
    return checkpoint_.matrices(name, count, rows, columns);
  }
  Tensor<1> vector(const std::string& name, index_t size) {
    read_.insert(name);
    return checkpoint_.vector(name, size);
  }

  /// Of a tensor that is read when it is asked for.
  void skip(const std::string& name) { read_.insert(name); }

  /// @throws Error for a tensor of one of the layers, or beside one that is used, that has not been read
  void require_all_read(index_t layers) const {
    std::set<std::string> modules;
    for (const std::string& name : read_) modules.insert(module_of(name));
    for (const std::string& name : checkpoint_.names()) {
      if (read_.contains(name) || std::ranges::any_of(harmless, [&](const char* end) { return name.ends_with(end); })) continue;
      if (layer_of(name) < layers || modules.contains(module_of(name)))
        throw Error(checkpoint_.directory().string() + ": tensor '" + name + "' has no place in the model that " +
                    config().where() + " describes; without it the result would be another model's");
    }
  }

 private:
  /// Of "model.layers.3.mlp": 3; of what is not in a layer: the largest there is.
  index_t layer_of(const std::string& name) const {
    const std::string layers = base_ + "layers.";
    index_t number = std::numeric_limits<index_t>::max();
    if (name.starts_with(layers)) std::from_chars(name.data() + layers.size(), name.data() + name.size(), number);
    return number;
  }

  const Checkpoint& checkpoint_;
  std::string base_;
  std::set<std::string> read_;
};

GroupedTensors grouped_tensors(Reader& reader, index_t layer) {
  const std::string at = reader.layer(layer) + "self_attn.";
  GroupedConfig grouped = grouped_config(reader.config());
  grouped.heads.window = attention_window(reader.config(), layer);
  const index_t H = grouped.heads.query_heads, G = grouped.heads.key_value_heads, D = grouped.heads.key_width;
  const index_t W = grouped.heads.value_width, M = model_sizes(reader.config()).width;
  const auto head_norm = [&](const char* name) { return grouped.head_norms ? reader.vector(at + name, D) : empty<1>({0}); };
  return {.query = reader.linear(at + "q_proj", H * D, M, grouped.input_biases),
          .key = reader.linear(at + "k_proj", G * D, M, grouped.input_biases),
          .value = reader.linear(at + "v_proj", G * W, M, grouped.input_biases),
          .output = reader.linear(at + "o_proj", M, H * W, grouped.output_bias),
          .query_norm = head_norm("q_norm.weight"),
          .key_norm = head_norm("k_norm.weight"),
          .sizes = grouped.heads};
}

LatentTensors latent_tensors(Reader& reader, index_t layer) {
  const std::string at = reader.layer(layer) + "self_attn.";
  const auto [sizes, biased] = latent_config(reader.config());
  const index_t M = sizes.width, H = sizes.heads, R = sizes.rank, queries = H * sizes.key_width();
  LatentTensors tensors{.query_down = {},
                        .query_norm = empty<1>({0}),
                        .query_up = {},
                        .latent_down = reader.linear(at + "kv_a_proj_with_mqa", sizes.row_width(), M, biased),
                        .latent_norm = reader.vector(at + "kv_a_layernorm.weight", R),
                        .latent_up = reader.matrix(at + "kv_b_proj", H * (sizes.plain_width + sizes.value_width), R),
                        .output = reader.linear(at + "o_proj", M, H * sizes.value_width, biased),
                        .sizes = sizes,
                        .softmax_factor = softmax_factor(reader.config())};
  if (sizes.query_rank) {
    tensors.query_down = reader.linear(at + "q_a_proj", *sizes.query_rank, M, biased);
    tensors.query_norm = reader.vector(at + "q_a_layernorm.weight", *sizes.query_rank);
    tensors.query_up = reader.matrix(at + "q_b_proj", queries, *sizes.query_rank);
  } else {
    tensors.query_up = reader.matrix(at + "q_proj", queries, M);
  }
  return tensors;
}

AttentionTensors attention_tensors(Reader& reader, index_t layer) {
  if (has_cache_scales(reader.config()))
    for (const char* scale : {"k_scale", "v_scale"}) reader.skip(reader.layer(layer) + "self_attn." + scale);
  if (family(reader.config()) == Family::gqa) return grouped_tensors(reader, layer);
  return latent_tensors(reader, layer);
}

SwiGluTensors swiglu_tensors(Reader& reader, const std::string& at, index_t F, index_t M, bool biased) {
  return {reader.linear(at + "gate_proj", F, M, biased), reader.linear(at + "up_proj", F, M, biased),
          reader.linear(at + "down_proj", M, F, biased)};
}

/// One tensor for each matrix, or, as transformers 5 keeps them, all experts' in two: gate above up, and down.
std::vector<SwiGluTensors> expert_tensors(Reader& reader, const std::string& at, const MixtureKind& names, index_t E, index_t F, index_t M) {
  std::vector<SwiGluTensors> experts;
  if (reader.has(at + "gate_up_proj")) {
    const auto gate_up = reader.matrices(at + "gate_up_proj", E, 2 * F, M), down = reader.matrices(at + "down_proj", E, M, F);
    for (index_t e = 0; e < E; ++e) experts.push_back({gate_up[e].row_slice(0, F), gate_up[e].row_slice(F, F), down[e]});
    return experts;
  }
  for (index_t e = 0; e < E; ++e) {
    const std::string expert = at + std::to_string(e) + ".";
    const auto matrix = [&](std::string_view name, index_t rows, index_t columns) {
      return reader.matrix(expert + std::string(name), rows, columns);
    };
    experts.push_back({matrix(names.gate, F, M), matrix(names.up, F, M), matrix(names.down, M, F)});
  }
  return experts;
}

MixtureTensors mixture_tensors(Reader& reader, index_t layer) {
  const Json& config = reader.config();
  const Architecture& found = architecture(config);
  const MixtureKind& names = *found.mixture;
  const auto [E, K, F, shared_width] = mixture_sizes(config);
  const index_t M = model_sizes(config).width;
  std::string at = reader.layer(layer) + std::string(names.module) + ".";
  if (!reader.has(at + "gate.weight")) at = reader.layer(layer) + "mlp.";  // what transformers 5 calls it everywhere
  MixtureTensors tensors{.gate = reader.matrix(at + "gate", E, M), .rule = routing_rule(config), .experts = {}, .shared = {}, .shared_gate = {}};
  if (tensors.rule.scores == RoutingRule::Scores::sigmoid_with_bias)
    tensors.rule.bias = reader.vector(at + "gate.e_score_correction_bias", E);
  tensors.experts = expert_tensors(reader, at + "experts.", names, E, F, M);
  if (shared_width != 0)
    tensors.shared = swiglu_tensors(reader, at + std::string(names.shared) + ".", shared_width, M, feed_forward_biases(config));
  if (shared_width != 0 && !names.shared_gate.empty()) tensors.shared_gate = reader.matrix(at + std::string(names.shared_gate), 1, M);
  return tensors;
}

FeedForwardTensors feed_forward_tensors(Reader& reader, index_t layer) {
  const Json& config = reader.config();
  if (is_mixture(config, layer)) return mixture_tensors(reader, layer);
  const ModelSizes sizes = model_sizes(config);
  return swiglu_tensors(reader, reader.layer(layer) + "mlp.", sizes.feed_forward_width, sizes.width, feed_forward_biases(config));
}

/// A tensor of one number.
float scale(Reader& reader, const std::string& name) {
  const float value = reader.vector(name, 1)(0);
  if (std::isfinite(value) && value > 0.0f) return value;
  throw Error(reader.directory().string() + ": tensor '" + name + "' is " + std::to_string(value) + "; a scale is a positive number");
}

/// Width of the rotated part of a head.
index_t rope_width(const Json& config) {
  return family(config) == Family::gqa ? grouped_config(config).heads.key_width : latent_config(config).sizes.rope_width;
}

}  // namespace

AttentionTensors attention_tensors(const Checkpoint& checkpoint, index_t layer) {
  Reader reader(checkpoint);
  return attention_tensors(reader, layer);
}

FeedForwardTensors feed_forward_tensors(const Checkpoint& checkpoint, index_t layer) {
  Reader reader(checkpoint);
  return feed_forward_tensors(reader, layer);
}

std::optional<CacheScales> cache_scales(const Checkpoint& checkpoint, index_t layer) {
  if (!has_cache_scales(checkpoint.config())) return std::nullopt;
  Reader reader(checkpoint);
  const std::string at = reader.layer(layer) + "self_attn.";
  return CacheScales{scale(reader, at + "k_scale"), scale(reader, at + "v_scale")};
}

HeadSizes head_sizes(const AttentionTensors& tensors) {
  if (const auto* grouped = std::get_if<GroupedTensors>(&tensors)) return grouped->sizes;
  return std::get<LatentTensors>(tensors).sizes.expanded();
}

LinearView& output_matrix(AttentionTensors& tensors) {
  return std::visit([](auto& kind) -> LinearView& { return kind.output; }, tensors);
}

std::vector<MatrixView> multiplied(const ModelTensors& tensors) {
  std::vector<MatrixView> matrices{tensors.head};
  const auto add = [&](const SwiGluTensors& part) {
    for (const LinearView* map : {&part.gate, &part.up, &part.down}) matrices.push_back(map->weight);
  };
  for (const LayerTensors& layer : tensors.layers) {
    if (const auto* grouped = std::get_if<GroupedTensors>(&layer.attention)) {
      for (const LinearView* map : {&grouped->query, &grouped->key, &grouped->value, &grouped->output}) matrices.push_back(map->weight);
    } else {
      const auto& latent = std::get<LatentTensors>(layer.attention);
      if (latent.query_down) matrices.push_back(latent.query_down->weight);
      for (const MatrixView& matrix : {latent.query_up, latent.latent_down.weight, latent.latent_up, latent.output.weight}) matrices.push_back(matrix);
    }
    if (const auto* mixture = std::get_if<MixtureTensors>(&layer.feed_forward)) {
      matrices.push_back(mixture->gate);
      for (const SwiGluTensors& expert : mixture->experts) add(expert);
      if (mixture->shared) add(*mixture->shared);
      if (mixture->shared_gate) matrices.push_back(*mixture->shared_gate);
    } else {
      add(std::get<SwiGluTensors>(layer.feed_forward));
    }
  }
  return matrices;
}

index_t shortest_window(const ModelTensors& tensors) {
  index_t shortest = no_window;
  for (const LayerTensors& layer : tensors.layers)
    if (const auto* grouped = std::get_if<GroupedTensors>(&layer.attention)) shortest = std::min(shortest, grouped->sizes.window);
  return shortest;
}

ModelTensors model_tensors(const Checkpoint& checkpoint) {
  Reader reader(checkpoint);
  const Json& config = checkpoint.config();
  const Rope rope = rope_config(config, rope_width(config));
  const ModelSizes sizes = model_sizes(config);
  const index_t V = sizes.vocabulary, M = sizes.width;
  const MatrixView embedding = reader.matrix(reader.base() + "embed_tokens", V, M);
  const bool own_head = reader.has("lm_head.weight") || !sizes.tied_embeddings;  // a tied model may have another one in its file
  ModelTensors tensors{.embedding = embedding,
                       .layers = {},
                       .final_norm = reader.vector(reader.base() + "norm.weight", M),
                       .head = own_head ? reader.matrix("lm_head", V, M) : embedding,
                       .norm_epsilon = sizes.norm_epsilon,
                       .rope = rope};
  for (index_t layer = 0; layer < sizes.layers; ++layer)
    tensors.layers.push_back({.attention_norm = reader.vector(reader.layer(layer) + "input_layernorm.weight", M),
                              .attention = attention_tensors(reader, layer),
                              .feed_forward_norm = reader.vector(reader.layer(layer) + "post_attention_layernorm.weight", M),
                              .feed_forward = feed_forward_tensors(reader, layer)});
  reader.require_all_read(sizes.layers);
  return tensors;
}

}  // namespace kv
