#include "tests/support/small_model.hpp"

#include <cmath>
#include <cstring>

#include "tests/support/random.hpp"

namespace kv::test {
namespace {

std::string stored_name(DType type) {
  if (type == DType::f32) return "F32";
  return type == DType::bf16 ? "BF16" : "F16";
}

std::string stored_bytes(const FileTensor& tensor) {
  std::string bytes;
  for (const float value : tensor.values) {
    const std::uint16_t narrow = tensor.type == DType::bf16 ? to_bf16(value) : to_f16(value);
    if (tensor.type == DType::f32)
      bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
    else
      bytes.append(reinterpret_cast<const char*>(&narrow), sizeof narrow);
  }
  return bytes;
}

std::string list_text(const std::vector<index_t>& numbers) {
  std::string text;
  for (const index_t number : numbers) text += (text.empty() ? "" : ",") + std::to_string(number);
  return "[" + text + "]";
}

/// Collects tensors; every one has a seed of its own.
class Weights {
 public:
  explicit Weights(const SmallModel& model) : type_(model.type), seed_(1000 * model.seed) {}

  /// Wide enough that attention is sharp and logits differ.
  void matrix(const std::string& name, index_t outputs, index_t inputs) {
    const float spread = 2.0f / std::sqrt(static_cast<float>(inputs));
    tensors_.push_back({name, type_, {outputs, inputs}, random_floats(outputs * inputs, ++seed_, -spread, 1.1f * spread)});
  }
  void norm(const std::string& name, index_t size) {
    tensors_.push_back({name, type_, {size}, random_floats(size, ++seed_, 0.5f, 1.6f)});
  }
  const std::vector<FileTensor>& tensors() const { return tensors_; }

 private:
  DType type_;
  unsigned seed_;
  std::vector<FileTensor> tensors_;
};

std::vector<FileTensor> weights_of(const SmallModel& model) {
  const index_t M = model.width, F = model.feed_forward_width;
  const index_t queries = model.query_heads * model.head_width, stored = model.key_value_heads * model.head_width;
  Weights weights(model);
  weights.matrix("model.embed_tokens.weight", model.vocabulary, M);
  for (index_t layer = 0; layer < model.layers; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    weights.norm(prefix + "input_layernorm.weight", M);
    weights.matrix(prefix + "self_attn.q_proj.weight", queries, M);
    weights.matrix(prefix + "self_attn.k_proj.weight", stored, M);
    weights.matrix(prefix + "self_attn.v_proj.weight", stored, M);
    weights.matrix(prefix + "self_attn.o_proj.weight", M, queries);
    if (model.qwen3) weights.norm(prefix + "self_attn.q_norm.weight", model.head_width);
    if (model.qwen3) weights.norm(prefix + "self_attn.k_norm.weight", model.head_width);
    weights.norm(prefix + "post_attention_layernorm.weight", M);
    weights.matrix(prefix + "mlp.gate_proj.weight", F, M);
    weights.matrix(prefix + "mlp.up_proj.weight", F, M);
    weights.matrix(prefix + "mlp.down_proj.weight", M, F);
  }
  weights.norm("model.norm.weight", M);
  if (!model.tied) weights.matrix("lm_head.weight", model.vocabulary, M);
  std::vector<FileTensor> tensors = weights.tensors();
  tensors.insert(tensors.end(), model.more.begin(), model.more.end());
  return tensors;
}

std::string config_of(const SmallModel& model) {
  std::map<std::string, std::string> members{
      {"architectures", model.qwen3 ? R"(["Qwen3ForCausalLM"])" : R"(["LlamaForCausalLM"])"},
      {"num_hidden_layers", std::to_string(model.layers)},
      {"hidden_size", std::to_string(model.width)},
      {"num_attention_heads", std::to_string(model.query_heads)},
      {"num_key_value_heads", std::to_string(model.key_value_heads)},
      {"head_dim", std::to_string(model.head_width)},
      {"intermediate_size", std::to_string(model.feed_forward_width)},
      {"vocab_size", std::to_string(model.vocabulary)},
      {"max_position_embeddings", std::to_string(model.context)},
      {"rms_norm_eps", "1e-5"},
      {"rope_theta", "10000.0"},
      {"hidden_act", R"("silu")"},
      {"tie_word_embeddings", model.tied ? "true" : "false"}};
  for (const auto& [key, value] : model.config) members[key] = value;
  std::string text;
  for (const auto& [key, value] : members)
    if (!value.empty()) text += (text.empty() ? "" : ", ") + ("\"" + key + "\": " + value);
  return "{" + text + "}";
}

}  // namespace

std::string safetensors_file(const std::vector<FileTensor>& tensors) {
  std::string header, data;
  for (const FileTensor& tensor : tensors) {
    const std::string bytes = stored_bytes(tensor);
    header += (header.empty() ? "\"" : ",\"") + tensor.name + "\":{\"dtype\":\"" + stored_name(tensor.type) +
              "\",\"shape\":" + list_text(tensor.shape) + ",\"data_offsets\":" +
              list_text({data.size(), data.size() + bytes.size()}) + "}";
    data += bytes;
  }
  header = "{" + header + "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');  // as published files do, so that the tensors are aligned
  const std::uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + header + data;
}

SmallCheckpoint::SmallCheckpoint(const SmallModel& model) {
  directory_.write("config.json", config_of(model));
  directory_.write("model.safetensors", safetensors_file(weights_of(model)));
}

}  // namespace kv::test
