/// What is said about a model's experts: counts, losses, figures.
#include <cmath>
#include <set>

#include "chapters/models/mixture_config.hpp"
#include "chapters/studies/expert_usage.hpp"
#include "chapters/studies/heat_map.hpp"
#include "chapters/studies/stage_colours.hpp"
#include "common/files/npy.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/decoders.hpp"

using namespace kv;
using namespace kv::test;

namespace {

std::vector<Token> golden_tokens(const std::string& name) {
  const std::vector<std::int32_t> ids = read_npy_i32(golden(name) / "tokens.npy");
  return {ids.begin(), ids.end()};
}

index_t count(const std::string& text, const std::string& part) {
  index_t found = 0;
  for (index_t at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++found;
  return found;
}

}  // namespace

TEST_CASE("the loss is the mean negative log-likelihood of the next token", "[usage]") {
  Tensor<2> logits = zeros<2>({3, 4});
  CHECK(mean_loss(logits, {0, 1, 2}) == Approx(std::log(4.0)));
  logits(0, 1) = 1000.0f;  // certain, and right
  logits(2, 3) = 50.0f;    // what follows the last token is not judged
  CHECK(mean_loss(logits, {0, 1, 2}) == Approx(std::log(4.0) / 2));
  logits(1, 0) = 20.0f;    // nearly certain, and wrong
  CHECK(mean_loss(logits, {0, 1, 2}) == Approx(10.0).epsilon(1e-6));
  CHECK(holds(error_of([&] { mean_loss(logits, {0}); }), "at least two tokens"));
}

TEST_CASE("distinct experts of a batch: one token has its own, all tokens have all of theirs", "[usage]") {
  const Routing routing{{{0, 1}, {1, 1}}, {{0, 1}, {2, 1}}, {{0, 1}, {1, 1}}, {{0, 1}, {5, 1}}};
  CHECK(distinct_experts(routing, 1) == 2.0);
  CHECK(distinct_experts(routing, 4) == 4.0);
  const double two = distinct_experts(routing, 2);  // of six pairs one needs 2 experts, five need 3
  CHECK(two == Approx(17.0 / 6.0).margin(0.1));
  CHECK(even_distinct_experts(64, 6, 1) == Approx(6.0));
  CHECK(even_distinct_experts(64, 6, 1000000) == Approx(64.0));
  CHECK(even_distinct_experts(8, 2, 2) == Approx(8 * (1 - 0.75 * 0.75)));
}

TEST_CASE("usage of a model's experts, and the loss without one", "[usage]") {
  const Checkpoint checkpoint(golden("mixtral"));
  std::vector<Token> tokens = golden_tokens("mixtral");
  tokens.resize(12);
  const ExpertUsage usage = expert_usage(checkpoint, tokens);
  REQUIRE(usage.routings.size() == 2);
  for (const auto& [layer, routing] : usage.routings) {
    REQUIRE(routing.size() == tokens.size());
    for (const Choices& token : routing) CHECK(token.size() == 2);
  }
  Decoder decoder = make_decoder(checkpoint, find_stage("uncached"), {.sequences = 1, .capacity = tokens.size()});
  CHECK(usage.loss == mean_loss(decoder.logits(0, tokens), tokens));

  const std::vector<Ablation> ablations = ablate_experts(checkpoint, tokens);
  REQUIRE(ablations.size() == 2 * 5);
  std::set<double> losses;
  for (const Ablation& ablation : ablations) {
    CAPTURE(ablation.layer, ablation.expert);
    bool used = false;
    for (const Choices& token : usage.routings.at(ablation.layer))
      for (const Choice& choice : token) used = used || choice.expert == ablation.expert;
    CHECK((ablation.loss != usage.loss) == used);  // nothing changes without an expert that nobody asks
    losses.insert(ablation.loss);
  }
  CHECK(losses.size() > 7);
}

TEST_CASE("a model without experts is refused", "[usage]") {
  CHECK(holds(error_of([] { expert_usage(Checkpoint(golden("llama-gqa")), {1, 2, 3}); }), "no mixture of experts"));
}

TEST_CASE("parameters of published mixtures", "[usage]") {
  const auto cost = [](const char* name) { return feed_forward_cost(Json::read(std::filesystem::path(KV_DATA) / "configs" / name / "config.json")); };
  CHECK(cost("mixtral-8x7b").parameters == 32 * (8 * 3ull * 14336 * 4096 + 8 * 4096));
  CHECK(cost("deepseek-v2-lite").parameters == 3ull * 10944 * 2048 + 26 * (66 * 3ull * 1408 * 2048 + 64 * 2048));
  CHECK(cost("deepseek-v2-lite").active_parameters == 3ull * 10944 * 2048 + 26 * (8 * 3ull * 1408 * 2048 + 64 * 2048));
  CHECK(cost("deepseek-v3").mixture_layers == 58);
  CHECK(cost("deepseek-v3").parameters == 3 * 3ull * 18432 * 7168 + 58 * (257 * 3ull * 2048 * 7168 + 256 * 7168));
  CHECK(cost("qwen3-30b-a3b").active_parameters == 48 * (8 * 3ull * 768 * 2048 + 128 * 2048));
}

TEST_CASE("a heat map has a cell for every number, and says which", "[usage]") {
  HeatMap map{.title = "a < b", .column_label = "expert", .row_names = {"one", "two"}, .cells = {{0, 1, 2}, {3, 4, 5}}, .least = 0, .most = 5, .unit = "tokens"};
  const std::string figure = svg(map);
  CHECK(count(figure, "<title>") == 7);  // its own, and one for each cell
  CHECK(holds(figure, "a &lt; b"));
  CHECK(holds(figure, "two, 2: 5"));
  CHECK(figure.starts_with("<svg"));
  CHECK(holds(figure, "</svg>"));
  map.column_names = {"x", "y", "z"};
  CHECK(holds(svg(map), "two, z: 5"));
  CHECK(!holds(svg(map), "class=\"r"));
  map.row_names = {"one", "lru, 4,096"};
  CHECK(holds(svg(map), "class=\"r1\""));
  CHECK(holds(svg(map), ".r1{fill:" + std::string(stage_colour("lru")->light) + "}"));
  map.column_names.pop_back();
  CHECK_THROWS_AS(svg(map), std::invalid_argument);
  map.column_names.clear();
  map.row_names.pop_back();
  CHECK_THROWS_AS(svg(map), std::invalid_argument);
  map.row_names = {"one", "two"};
  map.cells[1].pop_back();
  CHECK_THROWS_AS(svg(map), std::invalid_argument);
}

TEST_CASE("narrow cells of a heat map touch: their colours are the legend's", "[usage]") {
  const HeatMap map{.title = "many", .column_label = "row", .row_names = {"one"}, .cells = {std::vector<double>(280, 1.0)}, .least = 0, .most = 1, .unit = ""};
  CHECK(holds(svg(map), "<rect x=\"152.00\" y=\"40.0\" width=\"2.00\""));
}

TEST_CASE("a stage has one colour, whatever follows its name; what is no stage has none of these", "[usage]") {
  CHECK(stage_colour("window of 256") == stage_colour("window"));
  CHECK(stage_colour("4 sinks and a window of 252") == stage_colour("4 sinks and a window"));
  CHECK(stage_colour("windowed") == nullptr);
  CHECK(stage_colour("GQA-8") == nullptr);
  CHECK(stage_colour("naive")->light == stage_colour("preallocated")->light);
  for (const char* name : {"uncached", "concat", "absorbed", "decompressed", "window", "streaming", "heavy-hitters", "lru",
                           "snap", "fastgen"}) {
    CAPTURE(name);
    CHECK(stage_colour(name)->light != stage_colour("preallocated")->light);
    for (std::size_t i = 0; i < 5; ++i) CHECK(stage_colour(name)->light != other_colour(i).light);
  }
}
