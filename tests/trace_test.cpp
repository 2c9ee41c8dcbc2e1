/// The trace of a run: rows found in memory next to the chapters' formulas, bytes next to what `compare` says, weights, experts and
/// likely tokens next to the model's own; and the traces of the book's page next to new ones.
#include <numeric>
#include <regex>

#include "chapters/studies/step_trace.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/decoders.hpp"
#include "tests/support/program.hpp"

using namespace kv;
using namespace kv::test;

namespace {

constexpr index_t new_tokens = 6;
/// Some tokens stand there twice: in layer 0 their values are equal, and rows are told apart by their keys.
std::vector<Token> tokens_of(std::string_view text) { return Tokenizer(KV_DATA "/tiny-gqa/tokenizer.json").encode_with_special(text); }
std::vector<Token> prompt() { return tokens_of("Once upon a time, a fox saw a fox named"); }

StepTrace trace_of(const std::string& model, const std::string& stage) {
  return trace_steps(Checkpoint(KV_DATA "/" + model), find_stage(stage), prompt(), new_tokens);
}

/// The letters of a layer after step i, by the chapters.
std::string expected_rows(const std::string& stage, index_t i) {
  const index_t S = prompt().size() + i, C = prompt().size() + new_tokens - 1;
  if (stage == "uncached") return std::string(S, 'm');
  const std::string old(i == 0 ? 0 : S - 1, stage == "concat" ? 'c' : 'k'), fresh(S - old.size(), 'w');
  return old + fresh + std::string(stage == "concat" ? 0 : C - S, '-');
}

std::string file_of(const std::vector<std::string>& words, const std::filesystem::path& file) {
  const Finished finished = run_program(words);
  INFO(finished.err);
  REQUIRE(finished.exit_code == 0);
  return contents_of(file);
}

}  // namespace

TEST_CASE("every row is found where its stage has put it", "[trace]") {
  const std::string model = GENERATE("tiny-gqa", "tiny-mla");
  const std::string stage = GENERATE("uncached", "concat", "preallocated", "absorbed", "decompressed");
  if (model == "tiny-gqa" && find_stage(stage).chapter == 4) return;
  CAPTURE(model, stage);
  const StepTrace trace = trace_of(model, stage);
  REQUIRE(trace.steps.size() == new_tokens);
  StateBytes last;
  for (index_t i = 0; i < new_tokens; ++i)
    for (const LayerStep& layer : trace.steps[i].layers) {
      CHECK(layer.rows == expected_rows(stage, i));
      CHECK(layer.fed == (i == 0 || stage == "uncached" ? prompt().size() + i : 1));
      CHECK(layer.read() == prompt().size() + i);
      if (i + 1 == new_tokens) last += layer.bytes;
    }
  CHECK(last == trace.metrics.state_bytes);
}

TEST_CASE("a trace has the run's own weights, experts and logits", "[trace]") {
  const Checkpoint checkpoint(KV_DATA "/tiny-mla");
  const StepTrace trace = trace_of("tiny-mla", "preallocated"), absorbed = trace_of("tiny-mla", "absorbed");
  std::vector<Token> tokens = prompt();
  for (index_t i = 0; i < new_tokens; ++i) {
    const Tensor<2> logits = whole_logits(checkpoint, find_stage("uncached"), tokens);
    CHECK(std::ranges::equal(trace.steps[i].logits, row(logits, tokens.size() - 1)));
    for (index_t l = 0; l < trace.steps[i].layers.size(); ++l) {
      const LayerStep &step = trace.steps[i].layers[l], &other = absorbed.steps[i].layers[l];
      for (index_t h = 0; h < step.weights.shape(0); ++h) {
        const auto weights = row(step.weights, h);
        CHECK(std::abs(std::accumulate(weights.begin(), weights.end(), 0.0) - 1.0) < 1e-6);
      }
      for (index_t j = 0; j < step.weights.size(); ++j) CHECK(std::abs(step.weights.data()[j] - other.weights.data()[j]) < 1e-5);
      CHECK(step.experts.size() == (l == 0 ? 0 : 4));
    }
    tokens.push_back(trace.steps[i].next);
  }
}

TEST_CASE("rows in another form, and models without layers, are refused by name", "[trace]") {
  CHECK_THROWS_WITH(trace_of("tiny-gqa", "fp8"), Catch::Matchers::Contains("stage 'fp8' uses"));
  CHECK_THROWS_WITH(trace_of("tiny-gqa", "parallel"), Catch::Matchers::Contains("'parallel' makes the whole model"));
  CHECK_THAT(run_program({KV_PROGRAM, "trace", "--experts", "/dev/null"}).err, Catch::Matchers::Contains("tiny-gqa has no experts"));
}

TEST_CASE("the last step's bytes are those of compare, and the likely tokens those of the logits", "[trace]") {
  const TemporaryDirectory directory;
  const std::string file = (directory.path() / "trace.json").string(), stages = "concat,preallocated,absorbed,decompressed";
  const std::vector<std::string> what{"--model", KV_DATA "/tiny-mla", "--stages", stages, "--prompt", "The little fox"};
  std::vector<std::string> trace_words{KV_PROGRAM, "trace", "--tokens", "9", "--json", file};
  std::vector<std::string> words{KV_PROGRAM, "compare", "--max-new-tokens", "9", "--json"};
  trace_words.insert(trace_words.end(), what.begin(), what.end());
  words.insert(words.end(), what.begin(), what.end());
  const Json trace = Json::parse(file_of(trace_words, file), "trace"), runs = Json::parse(run_program(words).out, "compare").at("runs");
  for (index_t i = 0; i < runs.length(); ++i) {
    const Json stage = trace.at("stages").at(i), last = stage.at("steps").at(8);
    CHECK(stage.at("stage").text() == runs.at(i).at("stage").text());
    CHECK(last.at("state_bytes").size() == runs.at(i).at("state_bytes").size());
    CHECK(last.at("state_bytes_used").size() == runs.at(i).at("state_bytes_used").size());
  }
  const Tensor<2> all = whole_logits(Checkpoint(KV_DATA "/tiny-mla"), find_stage("concat"), tokens_of("The little fox"));
  const auto logits = row(all, all.shape(0) - 1);
  const Json likely = trace.at("steps").at(0).at("likely");
  REQUIRE(likely.length() == 5);
  std::vector<float> sorted(logits.begin(), logits.end());
  std::ranges::sort(sorted, std::greater());
  for (index_t i = 0; i < 5; ++i) {
    CHECK(static_cast<float>(likely.at(i).at("logit").number()) == sorted[i]);
    CHECK(logits[likely.at(i).at("token").size()] == sorted[i]);
  }
}

TEST_CASE("the traces of the book's page are what the program writes", "[trace]") {
  const std::string model = GENERATE("gqa", "mla");
  const TemporaryDirectory directory;
  const std::string file = (directory.path() / "trace.json").string();
  const std::regex clock("\"probability\":[^,}]*");  // by the mathematics library's exp
  const auto counts = [&](const std::string& text) { return std::regex_replace(text, clock, ""); };
  const std::string made = file_of({KV_PROGRAM, "trace", "--model", KV_DATA "/tiny-" + model, "--json", file}, file);
  CHECK(counts(made) == counts(contents_of(std::filesystem::path(KV_ROOT) / ("docs/measured/trace_" + model + ".json"))));
}

TEST_CASE("the strips of the book are what the program draws", "[trace]") {
  struct Strip {
    const char *figure, *model, *stages, *option;
  };
  const auto [figure, model, stages, option] = GENERATE(Strip{"uncached", "gqa", "uncached", "--svg"},
                                                        Strip{"concat", "gqa", "concat", "--svg"},
                                                        Strip{"preallocated", "gqa", "preallocated", "--svg"},
                                                        Strip{"latent", "mla", "preallocated,absorbed", "--svg"},
                                                        Strip{"experts", "mla", "preallocated", "--experts"});
  CAPTURE(figure);
  const TemporaryDirectory directory;
  const std::string file = (directory.path() / "strip.svg").string();
  const std::string drawn = file_of({KV_PROGRAM, "trace", "--model", std::string(KV_DATA "/tiny-") + model, "--stages", stages, option, file}, file);
  CHECK(drawn == contents_of(std::filesystem::path(KV_ROOT) / "docs/measured" / (std::string("steps_") + figure + ".svg")));
}
