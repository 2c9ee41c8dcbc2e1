#include <algorithm>
#include <cmath>

#include "chapters/05_mixture_of_experts/observed_router.hpp"
#include "common/text/table.hpp"
#include "docs/measure/measurements.hpp"

namespace kv::book {
namespace {

constexpr index_t tokens = 1500;

/// A text's logits, and the experts that every mixture chose for every token.
struct Run {
  Tensor<2> logits;
  std::vector<Routing> layers;
};

Run run(const Checkpoint& checkpoint, const std::string& stage, const std::vector<Token>& text) {
  Run result;
  const auto watched = [&](const Checkpoint& model,
                           index_t layer) -> std::shared_ptr<const FeedForward> {
    if (layer < 1) return feed_forward(model, layer);  // tiny-mla's first layer has no experts
    MixtureParts parts = mixture_parts(model, layer);
    const auto keep = [&result](const Routing& routing) { result.layers.push_back(routing); };
    parts.router = std::make_shared<ObservedRouter>(parts.router, keep);
    return std::make_shared<Mixture>(std::move(parts));
  };
  const Limits limits{.sequences = 1, .capacity = tokens};
  result.logits = make_decoder(checkpoint, find_stage(stage), limits, watched).logits(0, text);
  return result;
}

bool same_experts(const Choices& a, const Choices& b) {
  return std::ranges::is_permutation(a, b, {}, &Choice::expert, &Choice::expert);
}

/// The largest error of a token's logits, relative to the largest logit of all, for two kinds of
/// tokens.
struct Errors {
  index_t moved = 0;  // tokens that went to other experts in some layer
  double of_moved = 0, of_others = 0;
};

Errors errors(const Run& found, const Run& exact) {
  const double largest =
      std::abs(*std::ranges::max_element(exact.logits, {}, [](float x) { return std::abs(x); }));
  Errors result;
  for (index_t t = 0; t < tokens; ++t) {
    double error = 0;
    for (index_t v = 0; v < exact.logits.shape(1); ++v)
      error = std::max<double>(error, std::abs(found.logits(t, v) - exact.logits(t, v)) / largest);
    bool is_moved = false;
    for (index_t layer = 0; layer < exact.layers.size(); ++layer)
      is_moved = is_moved || !same_experts(found.layers[layer][t], exact.layers[layer][t]);
    result.moved += is_moved;
    double& worst = is_moved ? result.of_moved : result.of_others;
    worst = std::max(worst, error);
  }
  return result;
}

}  // namespace

void measure_format_experts(const Laboratory& laboratory, Report& report) {
  const std::filesystem::path data = laboratory.checkpoint().directory().parent_path();
  const Checkpoint checkpoint(data / "tiny-mla");
  std::vector<Token> text = Tokenizer(data / "tiny-mla/tokenizer.json")
                                .encode_with_special(text_of(data / "held_out/hay.txt"));
  text.resize(tokens);
  const Run exact = run(checkpoint, "absorbed", text);
  MarkdownTable table{
      {"format", "tokens with other experts", "their largest logit error", "of the other tokens"}};
  std::vector<JsonObject> rows;
  for (const std::string stage : {"bf16", "f16", "fp8", "int8", "int4"}) {
    const Errors found = errors(run(checkpoint, stage, text), exact);
    table.push_back({stage, std::to_string(found.moved), decimal(100 * found.of_moved, 2) + "%",
                     decimal(100 * found.of_others, 2) + "%"});
    rows.push_back(JsonObject()
                       .set("format", stage)
                       .set("tokens_with_other_experts", found.moved)
                       .set("largest_error_of_those", found.of_moved)
                       .set("largest_error_of_others", found.of_others));
  }
  report.with_model("tiny-mla, a model of 4 million parameters")
      .table("format_experts", table,
             "One text of " + grouped(tokens) +
                 " held-out tokens: how many of them go to other experts than with the f32 "
                 "cache in at least one of four layers. Errors are relative to the largest logit.");
  report.numbers("format_experts", rows);
}

}  // namespace kv::book
