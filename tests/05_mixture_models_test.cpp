/// Whole models with mixtures: against Hugging Face transformers, and what a config.json may not say.
#include <map>

#include "chapters/05_mixture_of_experts/observed_router.hpp"
#include "chapters/decoders.hpp"
#include "chapters/models/mixture_config.hpp"
#include "common/files/npy.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/decoders.hpp"
#include "tests/support/equality.hpp"
#include "tests/support/random.hpp"

using namespace kv;
using namespace kv::test;

namespace {

std::vector<Token> tokens_of(const std::string& name) {
  const std::vector<std::int32_t> ids = read_npy_i32(golden(name) / "tokens.npy");
  return {ids.begin(), ids.end()};
}

/// The routing of every mixture layer, in the order of the layers.
using Routings = std::map<index_t, Routing>;

MakeFeedForward observed(Routings& seen) {
  return [&seen](const Checkpoint& checkpoint, index_t layer) -> std::shared_ptr<const FeedForward> {
    if (!is_mixture(checkpoint.config(), layer)) return feed_forward(checkpoint, layer);
    MixtureParts parts = mixture_parts(checkpoint, layer);
    parts.router = std::make_shared<ObservedRouter>(parts.router, [&seen, layer](const Routing& routing) { seen[layer] = routing; });
    return std::make_shared<Mixture>(parts);
  };
}

std::shared_ptr<const FeedForward> naive(const Checkpoint& checkpoint, index_t layer) {
  if (!is_mixture(checkpoint.config(), layer)) return feed_forward(checkpoint, layer);
  return std::make_shared<DenseMixture>(mixture_parts(checkpoint, layer));
}

Tensor<2> logits_of(const Checkpoint& checkpoint, const std::vector<Token>& tokens, const MakeFeedForward& make = feed_forward) {
  return make_decoder(checkpoint, find_stage("uncached"), {.sequences = 1, .capacity = tokens.size()}, make).logits(0, tokens);
}

/// Chosen experts exactly, except where the decision is closer than 1e-6; their weights within rel 1e-4.
void check_routing(const std::string& name, const Routings& seen) {
  std::vector<index_t> shape;
  const std::vector<std::int32_t> experts = read_npy_i32(golden(name) / "experts.npy", shape);
  const Tensor<3> weights = read_npy_f32<3>(golden(name) / "expert_weights.npy");
  const Tensor<2> margins = read_npy_f32<2>(golden(name) / "margins.npy");
  REQUIRE(seen.size() == shape[0]);
  index_t l = 0;
  for (const auto& [layer, routing] : seen) {
    REQUIRE(routing.size() == shape[1]);
    for (index_t t = 0; t < shape[1]; ++t) {
      CAPTURE(layer, t);
      if (margins(l, t) < 1e-6f) continue;
      REQUIRE(routing[t].size() == shape[2]);
      for (index_t k = 0; k < shape[2]; ++k) {
        CHECK(routing[t][k].expert == static_cast<index_t>(experts[(l * shape[1] + t) * shape[2] + k]));
        CHECK(routing[t][k].weight == Approx(weights(l, t, k)).epsilon(1e-4));
      }
    }
    ++l;
  }
}

const std::vector<std::string> mixtures{"mixtral",          "qwen3-moe",         "qwen3-moe-unnormalised",       "deepseek-v2-lite",
                                        "deepseek-v2-group", "deepseek-v3-moe", "deepseek-v3-moe-negative-bias", "qwen2-moe", "qwen3-moe-fused", "mixtral-fused"};

/// A golden's config.json with some members replaced or added.
std::string changed_config(const std::string& name, const std::map<std::string, std::string>& members) {
  std::string text = contents_of(golden(name) / "config.json");
  for (const auto& [key, value] : members) {
    if (const index_t start = text.find("\"" + key + "\":"); start != text.npos) {
      const index_t colon = text.find(':', start), bracket = text.find_first_of("[,\n", colon);
      const index_t end = text.find_first_of(",\n", text[bracket] == '[' ? text.find(']', bracket) : colon);
      text.replace(colon + 1, end - colon - 1, " " + value);
    } else {
      text.insert(text.find('{') + 1, "\n\"" + key + "\": " + value + ",");
    }
  }
  return text;
}

Json config_with(const std::string& name, const std::map<std::string, std::string>& members) {
  return Json::parse(changed_config(name, members), "config.json");
}

/// What layer 1 of such a model says when its mixture is made.
std::string error_with(const std::string& name, const std::map<std::string, std::string>& members) {
  const OtherSpelling copy(golden(name));
  std::ofstream(copy.path() / "config.json") << changed_config(name, members);
  const Checkpoint checkpoint(copy.path());
  return error_of([&] { mixture_parts(checkpoint, 1); });
}

}  // namespace

TEST_CASE("logits and chosen experts agree with Hugging Face transformers", "[golden]") {
  const std::string name = GENERATE(from_range(mixtures));
  CAPTURE(name);
  const std::vector<Token> tokens = tokens_of(name);
  Routings seen;
  const Tensor<2> logits = logits_of(Checkpoint(golden(name)), tokens, observed(seen));
  CHECK(close(logits, read_npy_f32(golden(name) / "logits.npy"), 1e-4, "transformers sums in another order"));
  check_routing(name, seen);
}

TEST_CASE("exact: the naive evaluation of whole models, and the other spelling of config.json", "[golden]") {
  const std::string name = GENERATE(from_range(mixtures));
  CAPTURE(name);
  const std::vector<Token> tokens = tokens_of(name);
  const Tensor<2> logits = logits_of(Checkpoint(golden(name)), tokens);
  CHECK(exact(logits_of(Checkpoint(golden(name)), tokens, naive), logits));
  const OtherSpelling other(golden(name));
  CHECK(exact(logits_of(Checkpoint(other.path()), tokens), logits));
}

TEST_CASE("exact: every stage, token by token, in a batch and alone", "[golden]") {
  const std::string name = GENERATE(from_range(mixtures));
  CAPTURE(name);
  const Checkpoint checkpoint(golden(name));
  const std::vector<Token> tokens = tokens_of(name);
  const Tensor<2> logits = logits_of(checkpoint, tokens);
  for (const Stage& stage : stages(family(checkpoint.config()))) {
    if (!stage.equality.exact()) continue;
    CAPTURE(stage.name);
    Decoder decoder = make_decoder(checkpoint, stage, {.sequences = 2, .capacity = tokens.size()});
    for (index_t t = 0; t < tokens.size(); ++t) {
      // Another sequence, with other tokens, is computed along.
      const Tensor<2> both = decoder.logits({{1, {tokens[tokens.size() - 1 - t]}}, {0, {tokens[t]}}});
      CHECK(exact(rows(both, 1, 1), rows(logits, t, 1)));
    }
  }
}

TEST_CASE("which layers are mixtures", "[mixture]") {
  const Json v3 = config_with("deepseek-v3-moe", {{"first_k_dense_replace", "2"}, {"moe_layer_freq", "3"}});
  std::vector<index_t> found;
  for (index_t layer = 0; layer < 10; ++layer)
    if (is_mixture(v3, layer)) found.push_back(layer);
  CHECK(found == std::vector<index_t>{3, 6, 9});

  const Json qwen = config_with("qwen3-moe", {{"decoder_sparse_step", "2"}, {"mlp_only_layers", "[3, 4]"}});
  found.clear();
  for (index_t layer = 0; layer < 8; ++layer)
    if (is_mixture(qwen, layer)) found.push_back(layer);
  CHECK(found == std::vector<index_t>{1, 5, 7});

  CHECK(is_mixture(Json::read(golden("mixtral") / "config.json"), 0));
  CHECK_FALSE(is_mixture(Json::read(golden("llama-gqa") / "config.json"), 0));
  CHECK_FALSE(is_mixture(Json::read(golden("deepseek-v3-dense") / "config.json"), 1));
}

TEST_CASE("router options that no published model has are refused by name", "[mixture]") {
  CHECK(holds(error_with("deepseek-v3-moe", {{"scoring_func", "\"softmax\""}}), "scoring_func 'softmax' with topk_method 'noaux_tc'"));
  CHECK(holds(error_with("deepseek-v3-moe", {{"topk_method", "\"greedy\""}}), "scoring_func 'sigmoid' with topk_method 'greedy'"));
  CHECK(holds(error_with("deepseek-v2-lite", {{"topk_method", "\"noaux_tc\""}}), "scoring_func 'softmax' with topk_method 'noaux_tc'"));
  CHECK(holds(error_with("deepseek-v2-lite", {{"scoring_func", "\"sigmoid\""}}), "scoring_func 'sigmoid' with topk_method 'greedy'"));
  CHECK(holds(error_with("deepseek-v2-lite", {{"norm_topk_prob", "true"}}), "norm_topk_prob is true"));
  CHECK(error_with("deepseek-v3-moe", {}) == "no error");
  CHECK(error_with("deepseek-v2-group", {}) == "no error");
}

TEST_CASE("sizes of a mixture that do not fit are refused by name", "[mixture]") {
  CHECK(holds(error_with("mixtral", {{"num_experts_per_tok", "6"}}), "num_experts_per_tok is 6, more than the 5 experts"));
  CHECK(holds(error_with("mixtral", {{"num_experts_per_tok", "0"}}), "num_experts_per_tok is 0"));
  CHECK(holds(error_with("mixtral", {{"num_local_experts", "0"}}), "num_local_experts is 0"));
  CHECK(holds(error_with("mixtral", {{"num_local_experts", "2000000000"}}), "gate.weight' has shape (5,32), expected (2000000000,32)"));
  CHECK(holds(error_with("mixtral", {{"intermediate_size", "21"}}), "experts.0.w1.weight' has shape (20,32), expected (21,32)"));
  CHECK(holds(error_with("mixtral", {{"num_local_experts", "4"}}), "gate.weight' has shape (5,32), expected (4,32)"));
  CHECK(holds(error_with("deepseek-v3-moe", {{"n_group", "7"}}), "n_group is 7, which does not divide 24 experts"));
  CHECK(holds(error_with("deepseek-v3-moe", {{"topk_group", "9"}}), "topk_group is 9 of 8 groups of 3"));
  CHECK(holds(error_with("deepseek-v3-moe", {{"topk_group", "1"}}), "topk_group is 1 of 8 groups of 3, from which 6 experts cannot be chosen"));
  CHECK(holds(error_with("deepseek-v3-moe", {{"topk_group", "0"}}), "topk_group is 0"));
  CHECK(holds(error_with("deepseek-v3-moe", {{"routed_scaling_factor", "-1.0"}}), "routed_scaling_factor is -1; it must lie between"));
  CHECK(holds(error_with("deepseek-v3-moe", {{"n_shared_experts", "2"}}), "shared_experts.gate_proj.weight' has shape (8,24), expected (16,24)"));
  CHECK(holds(error_with("qwen3-moe", {{"norm_topk_prob", "3"}}), "norm_topk_prob"));
}

TEST_CASE("an expert that is not in the file is missed when the model is opened, not when it is first chosen", "[mixture]") {
  const OtherSpelling copy(golden("mixtral"));
  std::string file = contents_of(copy.path() / "model.safetensors");
  const index_t name = file.find("layers.1.block_sparse_moe.experts.4.w3");
  REQUIRE(name != file.npos);
  file.replace(name, 38, "layers.1.block_sparse_moe.experts.9.w3");
  std::filesystem::remove(copy.path() / "model.safetensors");
  std::ofstream(copy.path() / "model.safetensors", std::ios::binary) << file;
  CHECK(holds(error_of([&] { mixture_parts(Checkpoint(copy.path()), 1); }), "'model.layers.1.block_sparse_moe.experts.4.w3.weight' is missing"));
}

TEST_CASE("a model's own cost of the feed-forward halves", "[mixture]") {
  const FeedForwardCost dense = feed_forward_cost(Json::read(golden("llama-gqa") / "config.json"));
  CHECK(dense.parameters == dense.active_parameters);
  CHECK(dense.mixture_layers == 0);
  const FeedForwardCost mixtral = feed_forward_cost(Json::read(golden("mixtral") / "config.json"));
  CHECK(mixtral.mixture_layers == 2);
  CHECK(mixtral.parameters == 2 * (5 * 32 + 5 * 3 * 20 * 32));
  CHECK(mixtral.active_parameters == 2 * (5 * 32 + 2 * 3 * 20 * 32));
}
