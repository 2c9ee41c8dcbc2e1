/// @file
/// make_synthetic CONFIG.json DIRECTORY [--layers N] [--vocabulary V] [--context C] [--holes]: a checkpoint of a Llama or
/// DeepSeek model's true shapes with random bf16 weights, for benchmarks of speed and memory. What it says means nothing.
///
/// Tensors are written one after the other, a block at a time: memory stays small whatever the size of the model.
/// --holes leaves the routed experts out of the file as holes, which read as zeros and take no disk: a 16-billion-parameter
/// directory then fits anywhere, and only what is touched costs memory.
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <optional>
#include <vector>

#include "chapters/models/architectures.hpp"
#include "chapters/models/family.hpp"
#include "chapters/models/grouped_config.hpp"
#include "chapters/models/latent_config.hpp"
#include "chapters/models/mixture_config.hpp"
#include "chapters/models/model_sizes.hpp"
#include "common/files/error.hpp"
#include "common/files/json.hpp"
#include "common/tensor/dtype.hpp"

namespace {

using namespace kv;

/// One tensor to be written.
struct Plan {
  std::string name;
  std::vector<index_t> shape;
  enum Content { random, ones, zeros, hole } content;

  index_t elements() const {
    index_t count = 1;
    for (const index_t size : shape) count *= size;
    return count;
  }
  std::size_t element_bytes() const { return content == zeros ? 4 : 2; }  // the router's bias is f32
  std::size_t bytes() const { return elements() * element_bytes(); }
};

// ---- which tensors ----

void plan_grouped(std::vector<Plan>& plans, const std::string& at, const Json& config) {
  const auto [heads, head_norms, input_biases, output_bias] = grouped_config(config);
  if (head_norms || input_biases || output_bias)
    throw Error("make_synthetic: of models without latents it makes Llama's shape alone: no norms of heads, no biases");
  const index_t M = model_sizes(config).width;
  plans.push_back({at + "q_proj.weight", {heads.query_heads * heads.key_width, M}, Plan::random});
  plans.push_back({at + "k_proj.weight", {heads.key_value_heads * heads.key_width, M}, Plan::random});
  plans.push_back({at + "v_proj.weight", {heads.key_value_heads * heads.value_width, M}, Plan::random});
  plans.push_back({at + "o_proj.weight", {M, heads.query_heads * heads.value_width}, Plan::random});
}

void plan_latent(std::vector<Plan>& plans, const std::string& at, const Json& config) {
  const LatentSizes sizes = latent_config(config).sizes;
  const index_t M = sizes.width, H = sizes.heads, R = sizes.rank, queries = H * sizes.key_width();
  if (sizes.query_rank) {
    plans.push_back({at + "q_a_proj.weight", {*sizes.query_rank, M}, Plan::random});
    plans.push_back({at + "q_a_layernorm.weight", {*sizes.query_rank}, Plan::ones});
    plans.push_back({at + "q_b_proj.weight", {queries, *sizes.query_rank}, Plan::random});
  } else {
    plans.push_back({at + "q_proj.weight", {queries, M}, Plan::random});
  }
  plans.push_back({at + "kv_a_proj_with_mqa.weight", {sizes.row_width(), M}, Plan::random});
  plans.push_back({at + "kv_a_layernorm.weight", {R}, Plan::ones});
  plans.push_back({at + "kv_b_proj.weight", {H * (sizes.plain_width + sizes.value_width), R}, Plan::random});
  plans.push_back({at + "o_proj.weight", {M, H * sizes.value_width}, Plan::random});
}

void plan_swiglu(std::vector<Plan>& plans, const std::string& at, index_t F, index_t M, Plan::Content content) {
  plans.push_back({at + "gate_proj.weight", {F, M}, content});
  plans.push_back({at + "up_proj.weight", {F, M}, content});
  plans.push_back({at + "down_proj.weight", {M, F}, content});
}

void plan_mixture(std::vector<Plan>& plans, const std::string& at, const Json& config, Plan::Content experts) {
  const auto [E, K, F, shared_width] = mixture_sizes(config);
  const index_t M = model_sizes(config).width;
  plans.push_back({at + "gate.weight", {E, M}, Plan::random});
  if (config.at("architectures").at(index_t{0}).text() == "DeepseekV3ForCausalLM")
    plans.push_back({at + "gate.e_score_correction_bias", {E}, Plan::zeros});
  for (index_t e = 0; e < E; ++e) plan_swiglu(plans, at + "experts." + std::to_string(e) + ".", F, M, experts);
  if (shared_width > 0) plan_swiglu(plans, at + "shared_experts.", shared_width, M, Plan::random);
}

std::vector<Plan> plan_model(const Json& config, Plan::Content experts) {
  const ModelSizes sizes = model_sizes(config);
  const index_t M = sizes.width, V = sizes.vocabulary;
  std::vector<Plan> plans{{"model.embed_tokens.weight", {V, M}, Plan::random}, {"model.norm.weight", {M}, Plan::ones}};
  if (!sizes.tied_embeddings) plans.push_back({"lm_head.weight", {V, M}, Plan::random});
  for (index_t layer = 0; layer < sizes.layers; ++layer) {
    const std::string at = "model.layers." + std::to_string(layer) + ".";
    plans.push_back({at + "input_layernorm.weight", {M}, Plan::ones});
    plans.push_back({at + "post_attention_layernorm.weight", {M}, Plan::ones});
    (family(config) == Family::mla ? plan_latent : plan_grouped)(plans, at + "self_attn.", config);
    if (is_mixture(config, layer))
      plan_mixture(plans, at + "mlp.", config, experts);
    else
      plan_swiglu(plans, at + "mlp.", sizes.feed_forward_width, M, Plan::random);
  }
  return plans;
}

// ---- writing ----

std::string header(const std::vector<Plan>& plans) {
  std::string text = "{";
  std::size_t offset = 0;
  for (const Plan& plan : plans) {
    std::string shape;
    for (const index_t size : plan.shape) shape += (shape.empty() ? "" : ",") + std::to_string(size);
    text += (offset == 0 ? "" : ",") + ("\"" + plan.name) + "\":{\"dtype\":\"" + (plan.element_bytes() == 4 ? "F32" : "BF16") +
            "\",\"shape\":[" + shape + "],\"data_offsets\":[" + std::to_string(offset) + "," + std::to_string(offset + plan.bytes()) + "]}";
    offset += plan.bytes();
  }
  text += "}";
  text.resize((text.size() + 7) / 8 * 8, ' ');  // the data starts aligned
  return text;
}

/// Uniform, with the deviation that keeps the size of what is multiplied: 1 / sqrt(inputs).
void fill_random(std::vector<std::uint16_t>& block, double inputs, std::uint64_t& state) {
  const float width = static_cast<float>(std::sqrt(3.0 / inputs));
  for (std::uint16_t& value : block) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    value = to_bf16(width * (static_cast<float>(state >> 40) * 0x1p-23f - 1.0f));
  }
}

void write_tensor(std::ofstream& file, const Plan& plan, std::uint64_t& state) {
  if (plan.content == Plan::hole) {
    file.seekp(static_cast<std::streamoff>(plan.bytes()), std::ios::cur);
    return;
  }
  constexpr index_t block_elements = 1 << 20;
  std::vector<std::uint16_t> block;
  for (index_t done = 0; done < plan.elements(); done += block.size()) {
    block.assign(std::min(block_elements, plan.elements() - done), plan.content == Plan::ones ? to_bf16(1.0f) : 0);
    if (plan.content == Plan::random) fill_random(block, static_cast<double>(plan.shape.back()), state);
    for (std::size_t copy = 0; copy < plan.element_bytes() / 2; ++copy)
      file.write(reinterpret_cast<const char*>(block.data()), static_cast<std::streamsize>(2 * block.size()));
  }
}

void write_model(const std::filesystem::path& path, const std::vector<Plan>& plans) {
  std::ofstream file(path, std::ios::binary);
  const std::string text = header(plans);
  const std::uint64_t length = text.size();
  file.write(reinterpret_cast<const char*>(&length), 8);
  file << text;
  std::uint64_t state = 1;
  std::size_t total = 8 + length;
  for (const Plan& plan : plans) {
    write_tensor(file, plan, state);
    total += plan.bytes();
  }
  file.close();
  if (!file) throw Error(path.string() + ": cannot be written: is the disk full?");
  std::filesystem::resize_file(path, total);  // a hole at the end
}

// ---- config.json ----

void replace_number(std::string& config, const std::string& key, const std::string& value) {
  const index_t colon = config.find(':', config.find("\"" + key + "\""));
  if (colon == config.npos) throw Error("config.json: " + key + " is missing");
  config.replace(colon + 1, config.find_first_of(",}\n", colon) - colon - 1, " " + value);
}

std::string file_contents(const std::filesystem::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

void make(const std::vector<std::string>& words) {
  if (words.size() < 2) throw UsageError("usage: make_synthetic CONFIG.json DIRECTORY [--layers N] [--vocabulary V] [--context C] [--holes]");
  std::string config = file_contents(words[0]);
  Plan::Content experts = Plan::random;
  for (index_t i = 2; i < words.size(); ++i) {
    if (words[i] == "--holes") experts = Plan::hole;
    else if (words[i] == "--layers" && i + 1 < words.size()) replace_number(config, "num_hidden_layers", words[++i]);
    else if (words[i] == "--vocabulary" && i + 1 < words.size()) replace_number(config, "vocab_size", words[++i]);
    else if (words[i] == "--context" && i + 1 < words.size()) replace_number(config, "max_position_embeddings", words[++i]);
    else throw UsageError("make_synthetic: unknown option '" + words[i] + "'");
  }
  const std::vector<Plan> plans = plan_model(Json::parse(config, words[0]), experts);
  std::filesystem::create_directories(words[1]);
  std::ofstream(std::filesystem::path(words[1]) / "config.json") << config;
  write_model(std::filesystem::path(words[1]) / "model.safetensors", plans);
  index_t parameters = 0;
  for (const Plan& plan : plans) parameters += plan.elements();
  std::cout << words[1] << ": " << plans.size() << " tensors, " << parameters << " parameters\n";
}

}  // namespace

int main(int count, char** words) {
  try {
    make({words + 1, words + count});
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "make_synthetic: error: " << error.what() << "\n";
    return 1;
  }
}
