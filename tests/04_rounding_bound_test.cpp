/// What `compare` holds `absorbed` to: a bound that is tried on the model itself. It must be near what rounding really does, at any
/// depth, and far from what a mistake does.
#include <cmath>

#include "chapters/03_preallocated_cache/preallocated_attention.hpp"
#include "chapters/models/layer_parts.hpp"
#include "chapters/models/model_tensors.hpp"
#include "chapters/models/rope_config.hpp"
#include "chapters/studies/rounded_heads.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/decoders.hpp"
#include "tests/support/equality.hpp"
#include "tests/support/random.hpp"
#include "tests/support/small_model.hpp"

using namespace kv;
using namespace kv::test;

namespace {

constexpr index_t M = 64, H = 4, plain = 16, P = 8, W = 16, R = 32, F = 96, V = 200;

/// A random model of DeepSeek-V3's kind without experts. Outliers: two numbers of the residual stream a hundred times as large as
/// the others, from the embedding on, as trained models have them.
class DeepModel {
 public:
  DeepModel(index_t layers, bool outliers) {
    matrix("model.embed_tokens.weight", V, M, 1.7f * std::sqrt(static_cast<float>(M)));
    for (index_t token = 0; outliers && token < V; ++token)
      for (const index_t channel : {3, 41}) tensors_.front().values[token * M + channel] *= 100.0f;
    for (index_t layer = 0; layer < layers; ++layer) {
      const std::string at = "model.layers." + std::to_string(layer) + ".", self = at + "self_attn.";
      for (const char* norm : {"input_layernorm.weight", "post_attention_layernorm.weight"}) ones(at + norm, M);
      matrix(self + "q_proj.weight", H * (plain + P), M, 2.6f);
      matrix(self + "kv_a_proj_with_mqa.weight", R + P, M, 1.7f);
      ones(self + "kv_a_layernorm.weight", R);
      matrix(self + "kv_b_proj.weight", H * (plain + W), R, 1.7f);
      matrix(self + "o_proj.weight", M, H * W, 0.9f);
      matrix(at + "mlp.gate_proj.weight", F, M, 1.7f);
      matrix(at + "mlp.up_proj.weight", F, M, 1.7f);
      matrix(at + "mlp.down_proj.weight", M, F, 0.9f);
    }
    ones("model.norm.weight", M);
    matrix("lm_head.weight", V, M, 5.2f);
    directory_.write("config.json", R"({"model_type": "deepseek_v3", "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4,
      "num_key_value_heads": 4, "kv_lora_rank": 32, "q_lora_rank": null, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16,
      "vocab_size": 200, "max_position_embeddings": 128, "n_routed_experts": 8, "moe_intermediate_size": 8, "num_hidden_layers": )" +
                                        std::to_string(layers) + R"(, "first_k_dense_replace": )" + std::to_string(layers) + "}");
    directory_.write("model.safetensors", safetensors_file(tensors_));
  }
  Checkpoint open() const { return Checkpoint(directory_.path()); }

 private:
  void matrix(const std::string& name, index_t outputs, index_t inputs, float gain) {
    const float spread = gain / std::sqrt(static_cast<float>(inputs));
    tensors_.push_back({name, DType::f32, {outputs, inputs},
                        random_floats(outputs * inputs, static_cast<unsigned>(tensors_.size()) + 50, -spread, spread)});
  }
  void ones(const std::string& name, index_t size) { tensors_.push_back({name, DType::f32, {size}, std::vector<float>(size, 1.0f)}); }

  std::vector<FileTensor> tensors_;
  TemporaryDirectory directory_;
};

/// What a wrong `absorbed` computes, said by heads: absorption changes the order of the sums and nothing else.
using Mistake = std::function<void(Heads&, const Checkpoint&, index_t layer, const Tensor<2>& x, std::span<const index_t> at)>;

class Mistaken : public HeadProjection {
 public:
  Mistaken(Checkpoint checkpoint, index_t layer, Mistake mistake)
      : checkpoint_(std::move(checkpoint)), heads_(head_projection(checkpoint_, layer)), layer_(layer), mistake_(std::move(mistake)) {}
  Heads project(const Tensor<2>& x, std::span<const index_t> at) const override {
    Heads heads = heads_->project(x, at);
    mistake_(heads, checkpoint_, layer_, x, at);
    return heads;
  }
  Tensor<3> queries(const Tensor<2>& x, std::span<const index_t> at) const override { return heads_->queries(x, at); }
  Tensor<2> output(const Tensor<3>& mixed) const override { return heads_->output(mixed); }
  HeadSizes sizes() const override { return heads_->sizes(); }

 private:
  Checkpoint checkpoint_;
  std::shared_ptr<const HeadProjection> heads_;
  index_t layer_;
  Mistake mistake_;
};

Stage with_mistake(const Mistake& mistake) {
  Stage stage = find_stage("preallocated");
  stage.make = MakeLayers([=](const Checkpoint& checkpoint, const Limits& limits, const StageOptions&) -> MakeLayer {
    return [=](index_t layer) -> LayerHalves {
      return {std::make_unique<PreallocatedAttention>(std::make_shared<Mistaken>(checkpoint, layer, mistake), limits)};
    };
  });
  return stage;
}

void scale_of_the_row(Heads& heads, const Checkpoint&, index_t, const Tensor<2>&, std::span<const index_t>) {
  for (float& q : heads.queries) q *= std::sqrt(static_cast<float>(plain + P) / (R + P));
}

void latent_without_its_norm(Heads& heads, const Checkpoint& checkpoint, index_t layer, const Tensor<2>& x, std::span<const index_t> at) {
  const LatentTensors tensors = std::get<LatentTensors>(attention_tensors(checkpoint, layer));
  const auto projection = latent_projection(checkpoint, layer);
  const Tensor<2> raw = (*checkpoint.pack(tensors.latent_down))(x);
  Tensor<2> latents = projection->latents(x, at);
  for (index_t n = 0; n < x.shape(0); ++n)
    for (index_t r = 0; r < R; ++r) latents(n, r) = raw(n, r);
  const auto expanded = projection->expand(latents);
  heads.keys = expanded.keys;
  heads.values = expanded.values;
}

void half_split_rope(Heads& heads, const Checkpoint& checkpoint, index_t, const Tensor<2>&, std::span<const index_t> at) {
  const RopeTable table = rope_config(checkpoint.config(), P).table(at);
  for (Tensor<3>* each : {&heads.queries, &heads.keys})
    for (index_t n = 0; n < at.size(); ++n)
      for (index_t h = 0; h < H; ++h) {
        const std::span<float> turned = row(*each, n, h).subspan(plain);
        std::vector<float> back(P / 2);
        for (index_t i = 0; i < P / 2; ++i) back[i] = -table.sin(n, i);
        rotate_interleaved(turned, row(table.cos, n), back);
        rotate_half_split(turned, row(table.cos, n), row(table.sin, n));
      }
}

void values_of_another_head(Heads& heads, const Checkpoint&, index_t, const Tensor<2>&, std::span<const index_t>) {
  for (index_t n = 0; n < heads.values.shape(0); ++n) std::ranges::copy(row(heads.values, n, 1), row(heads.values, n, 0).begin());
}

void unturned_in_one_layer(Heads& heads, const Checkpoint& checkpoint, index_t layer, const Tensor<2>& x, std::span<const index_t> at) {
  if (layer == 1) heads = head_projection(checkpoint, layer)->project(x, std::vector<index_t>(at.size(), 0));
}

double largest_difference(const Tensor<2>& found, const Tensor<2>& expected) {
  double top = 0.0, largest = 0.0;
  for (index_t i = 0; i < expected.size(); ++i) {
    top = std::max(top, std::abs(static_cast<double>(expected.data()[i])));
    largest = std::max(largest, std::abs(static_cast<double>(found.data()[i]) - expected.data()[i]));
  }
  return largest / top;
}

}  // namespace

TEST_CASE("the bound on another order of the sums is near what absorbed does and far from what mistakes do", "[absorbed]") {
  const index_t layers = GENERATE(4, 27, 61);
  const bool outliers = GENERATE(false, true);
  CAPTURE(layers, outliers);
  const DeepModel model(layers, outliers);
  const Checkpoint checkpoint = model.open();
  const std::vector<Token> tokens = random_tokens(32, V, 5);
  const Tensor<2> expected = whole_logits(checkpoint, find_stage("uncached"), tokens);
  const auto off = [&](const Stage& stage) { return largest_difference(whole_logits(checkpoint, stage, tokens), expected); };
  const double bound = rounding_margin * off(on_rounded_heads(checkpoint.config())), absorbed = off(find_stage("absorbed"));
  CAPTURE(bound, absorbed);
  CHECK(absorbed <= bound);
  CHECK(bound <= 10 * absorbed);
  for (const auto& mistake : {scale_of_the_row, latent_without_its_norm, half_split_rope, values_of_another_head, unturned_in_one_layer})
    CHECK(off(with_mistake(mistake)) > 10 * bound);
}

TEST_CASE("rounded heads do not depend on chunks", "[absorbed]") {
  const DeepModel model(4, false);
  const Checkpoint checkpoint = model.open();
  const std::vector<Token> tokens = random_tokens(20, V, 6);
  const Stage stage = on_rounded_heads(checkpoint.config());
  Decoder decoder = make_decoder(checkpoint, stage, {.sequences = 1, .capacity = 20});
  CHECK(exact(logits_in_chunks(decoder, 0, tokens, {7, 1, 12}), whole_logits(checkpoint, stage, tokens)));
}
