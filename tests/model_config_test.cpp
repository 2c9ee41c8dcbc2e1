/// What config.json means where it says nothing, and what it may not say.
#include <sstream>

#include "chapters/models/cache_bytes.hpp"
#include "chapters/models/config_field.hpp"
#include "chapters/models/family.hpp"
#include "chapters/models/grouped_config.hpp"
#include "chapters/models/latent_config.hpp"
#include "chapters/models/mixture_config.hpp"
#include "chapters/models/model_sizes.hpp"
#include "chapters/models/rope_config.hpp"
#include "chapters/models/window_config.hpp"
#include "tests/support/decoders.hpp"

using namespace kv;
using namespace kv::test;

namespace {

Json golden_config(const std::string& name) { return Json::read(golden(name) / "config.json"); }

/// A golden's config.json with one member set to a JSON text, or left out.
Json with_member(const std::string& name, const std::string& key, const std::string& value) {
  const Json config = Json::read(golden(name) / "config.json");
  std::string text;
  const auto add = [&](const std::string& member) { text += (text.empty() ? "" : ", ") + member; };
  const std::string file = contents_of(golden(name) / "config.json");
  for (const std::string& each : config.keys()) {
    if (each == key) continue;
    const index_t start = file.find("\n  \"" + each + "\":") + 1, end = file.find("\n  \"", start);
    std::string member = file.substr(start, end == file.npos ? file.rfind('}') - start : end - start);
    member.erase(member.find_last_not_of(" ,\n") + 1);
    add(member);
  }
  if (!value.empty()) add("\"" + key + "\": " + value);
  return Json::parse("{" + text + "}", "config.json");
}

/// Everything that is read from a config.json, as text.
std::string description(const Json& config) {
  std::ostringstream text;
  text.precision(17);
  try {
    const Family kind = family(config);
    const ModelSizes sizes = model_sizes(config);
    text << name(kind) << ' ' << sizes.layers << ' ' << sizes.width << ' ' << sizes.context << ' ' << sizes.norm_epsilon << ' '
         << sizes.tied_embeddings << ' ' << feed_forward_biases(config) << ' ' << softmax_factor(config);
    index_t rotated = 0;
    if (kind == Family::gqa) {
      const GroupedConfig grouped = grouped_config(config);
      rotated = grouped.heads.key_width;
      text << ' ' << grouped.heads.query_heads << ' ' << grouped.heads.key_value_heads << ' ' << rotated << ' ' << grouped.input_biases << ' '
           << grouped.output_bias;
      for (index_t layer = 0; layer < sizes.layers; ++layer) text << ' ' << attention_window(config, layer);
    } else {
      const auto [latent, biases] = latent_config(config);
      rotated = latent.rope_width;
      text << ' ' << latent.rank << ' ' << latent.query_rank.value_or(0) << ' ' << biases;
    }
    const Rope rope = rope_config(config, rotated);
    text << ' ' << rope.magnitude;
    for (const float frequency : rope.frequencies) text << ' ' << frequency;
    for (index_t layer = 0; layer < 6; ++layer) text << ' ' << is_mixture(config, layer);
    if (!architecture(config).mixture) return text.str();
    const MixtureSizes mixture = mixture_sizes(config);
    const RoutingRule rule = routing_rule(config);
    text << ' ' << mixture.experts << ' ' << mixture.expert_width << ' ' << mixture.shared_width << ' ' << static_cast<int>(rule.scores) << ' '
         << rule.chosen << ' ' << rule.limit.groups << ' ' << rule.limit.kept << ' ' << rule.normalised << ' ' << rule.scaling;
  } catch (const Error& error) {
    text << error.what();
  }
  return text.str();
}

struct Absent {
  std::string golden, key, meaning, other;  // JSON
};

/// What transformers 5.24 takes for absent fields; golden/sweep_configs.py compares logits.
const std::vector<Absent> absent_fields{
    {"llama-gqa", "rope_theta", "10000.0", "20000.0"},
    {"llama-gqa", "rope_scaling", "null", R"({"rope_type": "linear", "factor": 2.0})"},
    {"llama-gqa", "rms_norm_eps", "1e-6", "1e-5"},
    {"llama-gqa", "max_position_embeddings", "2048", "512"},
    {"mixtral", "max_position_embeddings", "131072", "512"},
    {"deepseek-v3-moe", "max_position_embeddings", "4096", "512"},
    {"llama-gqa", "num_key_value_heads", "6", "2"},
    {"llama-gqa", "head_dim", "8", "16"},
    {"llama-gqa", "tie_word_embeddings", "false", "true"},
    {"llama-gqa", "attention_bias", "false", "true"},
    {"llama-gqa", "mlp_bias", "false", "true"},
    {"llama-gqa", "hidden_act", R"("silu")", R"("gelu")"},
    {"llama-gqa", "partial_rotary_factor", "1.0", "0.5"},
    {"mistral", "sliding_window", "4096", "600"},
    {"mistral", "num_key_value_heads", "8", "2"},
    {"mistral", "rope_theta", "10000.0", "1000000.0"},
    {"mixtral", "sliding_window", "null", "600"},
    {"mixtral", "num_key_value_heads", "8", "2"},
    {"mixtral", "rope_theta", "1000000.0", "10000.0"},
    {"mixtral", "rms_norm_eps", "1e-5", "1e-6"},
    {"mixtral", "num_experts_per_tok", "2", "1"},
    {"qwen2", "num_key_value_heads", "32", "2"},
    {"qwen2", "qkv_bias", "true", "false"},
    {"qwen2-moe", "num_key_value_heads", "16", "1"},
    {"qwen2-moe", "num_experts_per_tok", "4", "3"},
    {"qwen2-moe", "norm_topk_prob", "false", "true"},
    {"qwen2-moe", "decoder_sparse_step", "1", "2"},
    {"qwen2-moe", "mlp_only_layers", "[]", "[1]"},
    {"qwen3", "head_dim", "128", "16"},
    {"qwen3", "num_key_value_heads", "32", "2"},
    {"qwen3", "attention_bias", "false", "true"},
    {"qwen3-moe", "head_dim", "7", "16"},
    {"qwen3-moe", "num_key_value_heads", "4", "2"},
    {"qwen3-moe", "num_experts_per_tok", "8", "3"},
    {"qwen3-moe", "norm_topk_prob", "false", "true"},
    {"deepseek-v2-lite", "first_k_dense_replace", "0", "1"},
    {"deepseek-v2-lite", "n_shared_experts", "2", "1"},
    {"deepseek-v2-lite", "routed_scaling_factor", "1.0", "16.0"},
    {"deepseek-v2-lite", "topk_method", R"("greedy")", R"("noaux_tc")"},
    {"deepseek-v2-lite", "scoring_func", R"("softmax")", R"("sigmoid")"},
    {"deepseek-v2-lite", "norm_topk_prob", "false", "true"},
    {"deepseek-v2-lite", "moe_layer_freq", "1", "2"},
    {"deepseek-v2-lite", "mlp_bias", "false", "true"},
    {"deepseek-v2-lite", "rope_interleave", "true", "false"},
    {"deepseek-v3-moe", "first_k_dense_replace", "3", "1"},
    {"deepseek-v3-moe", "n_shared_experts", "1", "2"},
    {"deepseek-v3-moe", "routed_scaling_factor", "2.5", "1.0"},
    {"deepseek-v3-moe", "norm_topk_prob", "true", "false"},
    {"deepseek-v3-moe", "n_group", "8", "4"},
    {"deepseek-v3-moe", "topk_group", "4", "2"},
    {"deepseek-v3-moe", "num_experts_per_tok", "8", "6"},
    {"deepseek-v3-moe", "topk_method", R"("noaux_tc")", R"("greedy")"},
    {"deepseek-v3-moe", "attention_bias", "false", "true"},
};

}  // namespace

TEST_CASE("a field that is absent means what the reference takes for it", "[config]") {
  const Absent field = GENERATE(from_range(absent_fields));
  CAPTURE(field.golden, field.key);
  const std::string absent = description(with_member(field.golden, field.key, ""));
  CHECK(absent == description(with_member(field.golden, field.key, field.meaning)));
  CHECK(absent != description(with_member(field.golden, field.key, field.other)));
}

TEST_CASE("a field that decides a tensor's shape has no default", "[config]") {
  for (const char* key : {"num_hidden_layers", "hidden_size", "intermediate_size", "vocab_size", "num_attention_heads",
                          "kv_lora_rank", "q_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim",
                          "moe_intermediate_size"}) {
    CAPTURE(key);
    CHECK(holds(description(with_member("deepseek-v3-moe", key, "")), std::string(key) + " is missing"));
  }
  CHECK(holds(description(with_member("deepseek-v3-moe", "n_routed_experts", "")), "has no n_routed_experts"));
  CHECK(holds(description(with_member("qwen2-moe", "shared_expert_intermediate_size", "")), "shared_expert_intermediate_size is missing"));
}

TEST_CASE("null is not absent", "[config]") {
  CHECK(holds(description(with_member("mixtral", "rope_theta", "null")), "rope_theta"));
  CHECK(holds(description(with_member("mixtral", "rms_norm_eps", "null")), "rms_norm_eps"));
  CHECK(holds(description(with_member("deepseek-v3-moe", "routed_scaling_factor", "null")), "routed_scaling_factor"));
  CHECK(grouped_config(with_member("llama-head-dim", "head_dim", "null")).heads.key_width == 9);  // hidden_size / heads
  CHECK(grouped_config(with_member("qwen3", "num_key_value_heads", "null")).heads.key_value_heads == 4);
  CHECK(latent_config(with_member("deepseek-v3-moe", "q_lora_rank", "null")).sizes.query_rank == std::nullopt);
  CHECK(mixture_sizes(with_member("deepseek-v3-moe", "n_shared_experts", "null")).shared_width == 0);
}

TEST_CASE("architectures and model_type: either is enough, and they must belong together", "[config]") {
  const auto found = [](const std::string& members) { return std::string(architecture(Json::parse(members, "config.json")).name); };
  const auto error = [&](const std::string& members) { return error_of([&] { found(members); }); };
  CHECK(found(R"({"model_type": "qwen2_moe"})") == "Qwen2MoeForCausalLM");
  CHECK(found(R"({"architectures": null, "model_type": "llama"})") == "LlamaForCausalLM");
  CHECK(found(R"({"architectures": [], "model_type": "mistral"})") == "MistralForCausalLM");
  CHECK(found(R"({"architectures": ["Qwen3Model"], "model_type": "qwen3"})") == "Qwen3ForCausalLM");
  CHECK(found(R"({"architectures": ["DeepseekV3ForCausalLM"]})") == "DeepseekV3ForCausalLM");
  CHECK(holds(error(R"({"architectures": ["LlamaForCausalLM"], "model_type": "mistral"})"), "LlamaForCausalLM, which is not of model_type 'mistral'"));
  CHECK(holds(error(R"({"architectures": ["LlamaForSequenceClassification"], "model_type": "llama"})"), "LlamaForSequenceClassification"));
  CHECK(holds(error(R"({"architectures": ["LlamaForCausalLM"], "model_type": "gemma"})"), "'LlamaForCausalLM' is not supported"));
  CHECK(holds(error(R"({"model_type": "gpt2"})"), "'gpt2' is not supported (supported: LlamaForCausalLM, "));
  CHECK(holds(error("{}"), "has neither architectures nor model_type"));
}

TEST_CASE("two spellings of one field that differ are refused", "[config]") {
  CHECK(mixture_sizes(with_member("qwen3-moe", "num_local_experts", "9")).experts == 9);
  CHECK(holds(description(with_member("qwen3-moe", "num_local_experts", "8")), "num_experts and num_local_experts differ"));
}

TEST_CASE("which layers are mixtures may be a list", "[config]") {
  std::vector<index_t> found;
  const Json config = with_member("deepseek-v3-moe", "moe_layer_freq", "[1, 0, 1, 1, 0]");
  for (index_t layer = 0; layer < 5; ++layer)
    if (is_mixture(config, layer)) found.push_back(layer);
  CHECK(found == std::vector<index_t>{2, 3});  // the first one is dense whatever the list says
  CHECK(holds(error_of([&] { is_mixture(config, 5); }), "moe_layer_freq"));
}

TEST_CASE("each layer has the window that its architecture gives it", "[config]") {
  const auto windows = [](const Json& config) {
    std::vector<index_t> result;
    for (index_t layer = 0; layer < model_sizes(config).layers; ++layer) result.push_back(attention_window(config, layer));
    return result;
  };
  using Windows = std::vector<index_t>;
  const index_t all = no_window;
  CHECK(windows(golden_config("mistral")) == Windows{all, all});  // null
  CHECK(windows(with_member("mistral", "sliding_window", "")) == Windows{4096, 4096});
  CHECK(windows(with_member("mistral", "sliding_window", "7")) == Windows{7, 7});
  CHECK(windows(with_member("mixtral", "sliding_window", "")) == Windows{all, all});
  CHECK(windows(golden_config("mixtral-window")) == Windows{15, 15});
  CHECK(windows(with_member("qwen2", "sliding_window", "100")) == Windows{all, all});  // use_sliding_window is false
  CHECK(windows(golden_config("qwen2-window")) == Windows{all, all, 11, 11});          // from max_window_layers on
  CHECK(windows(with_member("qwen2-window", "max_window_layers", "0")) == Windows{11, 11, 11, 11});
  CHECK(windows(with_member("qwen2-window", "max_window_layers", "")) == Windows{all, all, all, all});  // 28
  CHECK(windows(with_member("qwen2-window", "sliding_window", "")) == Windows{all, all, 4096, 4096});
  CHECK(windows(with_member("qwen2-window", "layer_types", R"(["sliding_attention", "attention", "full_attention", "full_attention"])")) ==
        Windows{11, all, all, all});
  CHECK(windows(golden_config("qwen2-moe-window")) == Windows{16, all, all});  // the even ones before max_window_layers
  CHECK(windows(golden_config("qwen3-layer-types")) == Windows{16, all, 16});
  CHECK(windows(golden_config("qwen3-moe-window")) == Windows{16, 16});
  CHECK(windows(with_member("qwen3-moe-window", "use_sliding_window", "false")) == Windows{all, all});
}

TEST_CASE("windows that are none, and lists of layers that say otherwise than the model attends, are refused by name", "[config]") {
  const auto refusal = [](const char* golden, const char* key, const char* value) { return description(with_member(golden, key, value)); };
  const auto layers = [&](const char* golden, const char* words) { return refusal(golden, "layer_types", words); };
  CHECK(holds(refusal("mistral", "sliding_window", "0"), "sliding_window is 0; it must be at least 1"));
  CHECK(holds(refusal("mistral", "sliding_window", "-3"), "sliding_window"));
  CHECK(holds(refusal("qwen2-window", "sliding_window", "0"), "sliding_window is 0"));
  CHECK(holds(refusal("qwen2-window", "max_window_layers", "null"), "max_window_layers"));
  CHECK(holds(refusal("llama-gqa", "sliding_window", "100"), "sliding_window is 100, shorter than the context of 512; LlamaForCausalLM has no"));
  CHECK(refusal("llama-gqa", "sliding_window", "512") == description(golden_config("llama-gqa")));
  CHECK(holds(layers("qwen3-layer-types", "[]"), "layer_types has 0 words for 3 layers"));
  CHECK(holds(layers("qwen3-layer-types", R"(["full_attention"])"), "layer_types has 1 words for 3 layers"));
  CHECK(holds(layers("qwen3-layer-types", R"(["full_attention", "chunked_attention", "full_attention"])"), "layer_types[1] is 'chunked_attention'"));
  CHECK(holds(layers("qwen3-layer-types", R"([1, 2, 3])"), "layer_types[0]"));
  CHECK(holds(layers("qwen3-layer-types", R"("full_attention")"), "layer_types"));
  CHECK(holds(layers("qwen3", R"(["full_attention", "sliding_attention"])"), "layer_types[1] is sliding_attention, but no sliding_window is in use"));
  CHECK(holds(layers("llama-gqa", R"(["full_attention", "sliding_attention"])"), "layer_types[1] says otherwise than LlamaForCausalLM"));
  CHECK(holds(layers("mistral-window", R"(["sliding_attention", "full_attention"])"), "layer_types[1] says otherwise than MistralForCausalLM"));
  CHECK(layers("mistral-window", R"(["sliding_attention", "sliding_attention"])") == description(golden_config("mistral-window")));
}

TEST_CASE("YaRN as the card of Qwen3 says reaches beyond max_position_embeddings", "[config]") {
  const std::string card = R"({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 400})";
  CHECK(model_sizes(with_member("qwen3-tied", "rope_scaling", card)).context == 1600);
  CHECK(model_sizes(with_member("qwen3-tied", "rope_scaling", R"({"type": "linear", "factor": 2.5})")).context == 1280);
  CHECK(model_sizes(with_member("llama3-rope", "architectures", R"(["LlamaForCausalLM"])")).context == 512);
}

TEST_CASE("sizes whose product does not fit 64 bits are an error, not a small number", "[config]") {
  CHECK(product({3, 5, 7}) == 105);
  CHECK(product({index_t{1} << 32, 0, index_t{1} << 40}) == 0);
  CHECK(holds(error_of([] { product({index_t{1} << 32, index_t{1} << 31, 2}); }), "does not fit 64 bits"));
  const Layout layout{"MHA", index_t{1} << 40, true};
  CHECK(holds(error_of([&] { bytes_per_token(layout, index_t{1} << 30, 2); }), "does not fit 64 bits"));
}
