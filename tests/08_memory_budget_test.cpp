/// Memory that is counted from a config: caches byte for byte as stages allocate them, parameters
/// of published models.
#include "chapters/studies/memory_budget.hpp"

#include "common/files/error.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/decoders.hpp"

using namespace kv;
using namespace kv::test;

namespace {

Json config_of(const std::string& path) {
  return Json::read(std::filesystem::path(KV_DATA) / path / "config.json");
}

}  // namespace

TEST_CASE("counted caches are what the stages allocate, byte for byte", "[budget]") {
  const std::string model = GENERATE("tiny-gqa", "tiny-mla");
  const Checkpoint checkpoint(std::filesystem::path(KV_DATA) / model);
  for (const std::string_view stage : counted_stages(checkpoint.config()))
    for (const Limits& limits : {Limits{1, 1}, Limits{1, 32}, Limits{2, 33}, Limits{3, 1000}}) {
      CAPTURE(model, stage, limits.sequences, limits.capacity);
      CHECK(cache_bytes(checkpoint.config(), stage, limits) ==
            make_decoder(checkpoint, find_stage(stage), limits).state_bytes().allocated);
    }
}

TEST_CASE("bytes for a token of published models, all layers", "[budget]") {
  const Json v3 = config_of("configs/deepseek-v3"), lite = config_of("configs/deepseek-v2-lite");
  CHECK(cache_bytes_per_token(v3, "absorbed") == 61 * 2304);
  CHECK(cache_bytes_per_token(v3, "bf16") == 70272);
  CHECK(cache_bytes_per_token(v3, "fp8") == 61 * 656);
  CHECK(cache_bytes_per_token(v3, "int4") == 61 * 448);
  CHECK(cache_bytes_per_token(lite, "bf16") == 31104);
  const Json mixtral = config_of("configs/mixtral-8x7b");  // 32 layers, 8 heads of 128
  CHECK(cache_bytes_per_token(mixtral, "preallocated") == 32 * 8 * 256 * 4);
  CHECK(cache_bytes_per_token(mixtral, "int8") == 32 * 8 * 264);
  CHECK(cache_bytes_per_token(mixtral, "int4") == 32 * 8 * 160);
}

TEST_CASE("parameters of published models, and of those that ship", "[budget]") {
  const auto billions = [](const char* model) {
    return static_cast<double>(parameters(config_of(model))) / 1e9;
  };
  CHECK(billions("configs/deepseek-v2-lite") == Approx(15.71).margin(0.01));
  CHECK(billions("configs/deepseek-v2") == Approx(235.74).margin(0.01));
  CHECK(billions("configs/deepseek-v3") == Approx(671.03).margin(0.01));
  CHECK(billions("configs/mixtral-8x7b") == Approx(46.70).margin(0.01));
  CHECK(billions("configs/qwen3-30b-a3b") == Approx(30.53).margin(0.01));
  for (const char* model : {"llama-biases", "qwen2", "qwen2-moe", "qwen3-biases", "deepseek-v3-biases", "mixtral-fused", "llama-tied"}) {
    CAPTURE(model);
    CHECK(parameters(Json::read(golden(model) / "config.json")) == Checkpoint(golden(model)).parameters());
  }
  for (const char* model : {"tiny-gqa", "tiny-mla"}) {
    CAPTURE(model);
    const Checkpoint checkpoint(std::filesystem::path(KV_DATA) / model);
    const double stored = static_cast<double>(checkpoint.parameters());  // with the routers' biases
    CHECK(static_cast<double>(parameters(checkpoint.config())) == Approx(stored).epsilon(1e-4));
  }
}

TEST_CASE("the longest context fits, and one token more does not", "[budget]") {
  const Json config = config_of("configs/deepseek-v2-lite");
  for (const std::string_view stage : counted_stages(config)) {
    const std::size_t memory = 34'000'000'000;
    const index_t longest = longest_context(config, stage, 2, std::nullopt, 512, memory);
    CAPTURE(stage, longest);
    REQUIRE(longest > 0);
    const auto total = [&](index_t context) {
      return memory_budget(config, stage, {2, context}, std::nullopt, 512).total();
    };
    CHECK(total(longest) <= memory);
    CHECK(total(longest + 1) > memory);
  }
  CHECK(longest_context(config, "int4", 1, std::nullopt, 1, 8'000'000'000) == 0);  // 16B in 8 GB
  CHECK_THROWS_AS(cache_bytes(config, "streaming", {1, 1}), UsageError);
  CHECK_THROWS_AS(cache_bytes(config, "preallocated", {1, 1}), UsageError);  // of latents: absorbed
}
