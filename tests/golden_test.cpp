/// Logits of Hugging Face transformers, in f32, from tiny random checkpoints: all stages agreeing with one another does
/// not prove that they are right. See golden/README.md.
#include "common/files/npy.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/decoders.hpp"
#include "tests/support/equality.hpp"
#include "tests/support/model_oracle.hpp"

using namespace kv;
using namespace kv::test;

namespace {

/// All of them, by name: a golden that is left out, or lost, fails the first test.
const std::vector<std::string> goldens{
    "deepseek-v2-dense", "deepseek-v2-group", "deepseek-v2-lite",      "deepseek-v2-yarn",
    "deepseek-v3-biases", "deepseek-v3-dense", "deepseek-v3-fp8",      "deepseek-v3-moe",
    "deepseek-v3-moe-negative-bias",          "deepseek-v3-yarn",      "llama-base-names",
    "llama-bf16",        "llama-biases",      "llama-f16",             "llama-gqa",
    "llama-head-dim",    "llama-long",        "llama-mha",             "llama-mqa",
    "llama-sharded",     "llama-tied",        "llama3-rope",           "llama3-rope-v5",
    "mistral",           "mistral-window",    "mixtral",               "mixtral-fused",
    "mixtral-window",    "qwen2",             "qwen2-moe",             "qwen2-moe-window",
    "qwen2-window",      "qwen3",             "qwen3-biases",          "qwen3-fp8-bf16-scales",
    "qwen3-layer-types", "qwen3-moe",         "qwen3-moe-fused",       "qwen3-moe-unnormalised",
    "qwen3-moe-window",  "qwen3-tied",
};

constexpr double tolerance = 1e-4;
constexpr const char* why = "transformers sums in another order";

std::vector<Token> tokens_of(const std::string& name) {
  const std::vector<std::int32_t> ids = read_npy_i32(golden(name) / "tokens.npy");
  return {ids.begin(), ids.end()};
}

/// Every stage, the prompt in one piece and the tail token by token.
void check_all_stages(const std::string& name) {
  const Checkpoint checkpoint(golden(name));
  const std::vector<Token> tokens = tokens_of(name);
  const Tensor<2> expected = read_npy_f32(golden(name) / "logits.npy");
  REQUIRE(tokens.size() > 20);
  REQUIRE(expected.shape(0) == tokens.size());
  for (const Stage& stage : stages_of_layers(family(checkpoint.config()))) {
    if (stage.equality.lossy) continue;
    CAPTURE(stage.name);
    Decoder decoder = make_decoder(checkpoint, stage, {.sequences = 1, .capacity = tokens.size()});
    CHECK(close(logits_in_chunks(decoder, 0, tokens, {tokens.size() - 4, 1, 3}), expected,
                std::max(tolerance, stage.equality.tolerance), why));
  }
}

}  // namespace

TEST_CASE("every golden is named here", "[golden]") { CHECK(golden_names() == goldens); }

TEST_CASE("logits of all stages of layers agree with Hugging Face transformers", "[golden]") {
  const std::string name = GENERATE(from_range(goldens));
  CAPTURE(name);
  REQUIRE(std::filesystem::is_directory(golden(name)));
  check_all_stages(name);
}

TEST_CASE("the other spelling of config.json gives equal bits", "[golden]") {
  const std::string name = GENERATE(from_range(goldens));
  CAPTURE(name);
  REQUIRE(std::filesystem::exists(golden(name) / "config_other_spelling.json"));
  const OtherSpelling other(golden(name));
  const std::vector<Token> tokens = tokens_of(name);
  const Stage& stage = find_stage("uncached");
  CHECK(exact(whole_logits(Checkpoint(other.path()), stage, tokens), whole_logits(Checkpoint(golden(name)), stage, tokens)));
}

TEST_CASE("the oracle agrees with the goldens too", "[golden]") {
  for (const char* name : {"llama-gqa", "llama-mha", "llama-mqa", "llama3-rope-v5", "qwen3-tied", "llama-bf16"}) {
    CAPTURE(name);
    const Doubles<2> found = oracle::logits(Checkpoint(golden(name)), tokens_of(name));
    CHECK(close(read_npy_f32(golden(name) / "logits.npy"), found, tolerance, "f32 against double precision"));
  }
}
