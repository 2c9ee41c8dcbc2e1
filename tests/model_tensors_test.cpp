/// Names of tensors: those that a model has, and those that it has no place for.
#include "chapters/models/model_tensors.hpp"

#include "tests/support/decoders.hpp"
#include "tests/support/model_oracle.hpp"
#include "tests/support/random.hpp"

using namespace kv;
using namespace kv::test;

namespace {

/// A small model with one tensor more.
std::string error_with(const std::string& name, const std::vector<index_t>& shape, const std::map<std::string, std::string>& config = {}) {
  index_t elements = 1;
  for (const index_t size : shape) elements *= size;
  const SmallCheckpoint files(SmallModel{.more = {{name, DType::f32, shape, random_floats(elements, 99)}}, .config = config});
  return error_of([&] { model_tensors(files.open()); });
}

}  // namespace

TEST_CASE("a tensor of a layer that nobody reads is refused by name", "[tensors]") {
  const char* name = GENERATE("model.layers.0.self_attn.q_proj.bias", "model.layers.1.self_attn.o_proj.bias", "model.layers.1.mlp.up_proj.bias",
                              "model.layers.0.self_attn.q_norm.weight", "model.layers.0.mlp.shared_experts.gate_proj.weight",
                              "model.layers.1.mlp.gate.weight", "model.layers.0.input_layernorm.bias", "model.norm.bias", "lm_head.bias",
                              "model.layers.0.self_attn.q_proj.lora_A.weight");
  CAPTURE(name);
  CHECK(holds(error_with(name, {40}), "tensor '" + std::string(name) + "' has no place in the model that"));
}

TEST_CASE("tensors that change nothing may be there", "[tensors]") {
  const char* name = GENERATE("model.layers.0.self_attn.rotary_emb.inv_freq", "model.rotary_emb.inv_freq", "model.layers.0.mlp.up_proj.input_scale",
                              "model.layers.2.mlp.up_proj.bias", "model.layers.2.enorm.weight", "score.weight");
  CAPTURE(name);
  CHECK(error_with(name, {5}) == "no error");
}

TEST_CASE("biases are read where the config has them, and missed where the file has none", "[tensors]") {
  CHECK(holds(error_with("score.weight", {5}, {{"attention_bias", "true"}}), "'model.layers.0.self_attn.q_proj.bias' is missing"));
  CHECK(holds(error_with("score.weight", {5}, {{"mlp_bias", "true"}}), "'model.layers.0.mlp.gate_proj.bias' is missing"));
}

TEST_CASE("a tied model with an output matrix of its own in the file keeps both", "[tensors]") {
  const SmallCheckpoint files(SmallModel{.config = {{"tie_word_embeddings", "true"}}});
  const std::vector<Token> tokens = random_tokens(12, 61, 3);
  const Tensor<2> found = whole_logits(files.open(), find_stage("uncached"), tokens);
  CHECK(close(found, oracle::logits(files.open(), tokens), 1e-4, "f32 against double precision"));
}

TEST_CASE("every tensor of every golden is read", "[tensors]") {
  const std::string name = GENERATE(from_range(golden_names()));
  CAPTURE(name);
  const Checkpoint checkpoint(golden(name));
  CHECK(model_tensors(checkpoint).layers.size() == checkpoint.config().at("num_hidden_layers").size());
}

TEST_CASE("experts in one tensor are the same views as experts of their own", "[tensors]") {
  const ModelTensors fused = model_tensors(Checkpoint(golden("qwen3-moe-fused")));
  const auto& mixture = std::get<MixtureTensors>(fused.layers[1].feed_forward);
  REQUIRE(mixture.experts.size() == 9);
  const MatrixView gate = mixture.experts[2].gate.weight, up = mixture.experts[2].up.weight, down = mixture.experts[3].down.weight;
  CHECK(gate.rows == 12);
  CHECK(gate.columns == 28);
  CHECK(static_cast<const char*>(up.data) - static_cast<const char*>(gate.data) == 12 * 28 * 4);
  CHECK(down.rows == 28);
  CHECK(down.columns == 12);
}
