/// DeepSeek checkpoints: logits of Hugging Face transformers through every stage, configs that are wrong, and what a
/// token costs in every layout.
#include <cmath>
#include <map>

#include "chapters/models/cache_bytes.hpp"
#include "tests/support/decoders.hpp"
#include "tests/support/latent_cases.hpp"

using namespace kv;
using namespace kv::test::latent;

namespace {

constexpr double golden_tolerance = 1e-4;  // of the largest logit: transformers sums in another order

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  const index_t at = text.find(from);
  REQUIRE(at != text.npos);
  return text.replace(at, from.size(), to);
}

/// A golden with another config.json, or other bytes in its weights.
class Altered {
 public:
  explicit Altered(const std::string& name) {
    std::filesystem::copy(golden_folder(name) / "model.safetensors", weights());
    write_config(contents_of(golden_folder(name) / "config.json"));
  }
  Altered& config(std::string_view from, std::string_view to) {
    write_config(replaced(contents_of(path() / "config.json"), from, to));
    return *this;
  }
  /// Gives a tensor another name of the same length.
  Altered& tensor(std::string_view from, std::string_view to) {
    REQUIRE(from.size() == to.size());
    const std::string bytes = replaced(contents_of(weights()), from, to);
    directory_.write("model.safetensors", bytes);
    return *this;
  }
  void write_config(const std::string& text) { directory_.write("config.json", text); }
  const std::filesystem::path& path() const { return directory_.path(); }

  std::string error(const char* stage = "absorbed") const {
    return error_of([&] { make_decoder(Checkpoint(path()), find_stage(stage), {.sequences = 1, .capacity = 8}); });
  }

 private:
  std::filesystem::path weights() const { return path() / "model.safetensors"; }
  TemporaryDirectory directory_;
};

Tensor<2> logits(const std::filesystem::path& folder, const Stage& stage, const std::vector<Token>& tokens) {
  return make_decoder(Checkpoint(folder), stage, {.sequences = 1, .capacity = tokens.size()}).logits(0, tokens);
}

std::map<std::string, std::size_t> bf16_bytes(const std::string& config_name) {
  const Json config = Json::read(std::filesystem::path(KV_DATA) / "configs" / config_name / "config.json");
  std::map<std::string, std::size_t> result;
  for (const Layout& layout : layouts(config))
    result[layout.name] = bytes_per_token(layout, model_sizes(config).layers, 2);
  return result;
}

}  // namespace

TEST_CASE("logits of DeepSeek checkpoints agree with transformers in every stage", "[latent][golden]") {
  const char* name = GENERATE(from_range(std::begin(latent_cases), std::end(latent_cases)));
  CAPTURE(name);
  const std::vector<Token> tokens = golden_tokens(name);
  const Tensor<2> expected = read_npy_f32(golden_folder(name) / "logits.npy");
  const Tensor<2> reference = logits(golden_folder(name), find_stage("uncached"), tokens);
  CHECK(relative_difference(reference, expected) < golden_tolerance);
  for (const Stage& stage : kv::test::stages_of_layers(Family::mla)) {
    if (stage.equality.lossy) continue;
    CAPTURE(stage.name);
    const Tensor<2> found = logits(golden_folder(name), stage, tokens);
    CHECK(relative_difference(found, expected) < golden_tolerance);
    if (stage.equality.exact())
      CHECK(equal_bits(found, reference));
    else
      CHECK(relative_difference(found, reference) < stage.equality.tolerance);
  }
}

TEST_CASE("DeepSeek prompts may come in pieces", "[latent][golden]") {
  const char* name = GENERATE("deepseek-v2-yarn", "deepseek-v3-yarn");
  CAPTURE(name);
  const std::vector<Token> tokens = golden_tokens(name);
  for (const Stage& stage : kv::test::stages_of_layers(Family::mla)) {
    CAPTURE(stage.name);
    const Tensor<2> whole = logits(golden_folder(name), stage, tokens);
    Decoder decoder = make_decoder(Checkpoint(golden_folder(name)), stage, {.sequences = 1, .capacity = tokens.size()});
    Tensor<2> pieces = empty<2>({whole.shape(0), whole.shape(1)});
    index_t first = 0;
    for (const index_t T : random_chunks(tokens.size(), 50, 7)) {
      const auto begin = tokens.begin() + static_cast<std::ptrdiff_t>(first);
      put_rows(pieces, first, decoder.logits(0, {begin, begin + static_cast<std::ptrdiff_t>(T)}));
      first += T;
    }
    if (stage.name == "latent")
      CHECK(relative_difference(pieces, whole) < stage.equality.tolerance);
    else
      CHECK(equal_bits(pieces, whole));
  }
}

TEST_CASE("both spellings of a DeepSeek config give equal bits", "[latent][golden]") {
  const char* name = GENERATE(from_range(std::begin(latent_cases), std::end(latent_cases)));
  CAPTURE(name);
  Altered other(name);
  other.write_config(contents_of(golden_folder(name) / "config_other_spelling.json"));
  const std::vector<Token> tokens = golden_tokens(name);
  CHECK(equal_bits(logits(other.path(), find_stage("absorbed"), tokens),
                   logits(golden_folder(name), find_stage("absorbed"), tokens)));
}

TEST_CASE("how much a cache may hold does not change YaRN", "[latent]") {
  const std::filesystem::path folder = golden_folder("deepseek-v3-yarn");  // original length 64
  const std::vector<Token> tokens = golden_tokens("deepseek-v3-yarn"), some(tokens.begin(), tokens.begin() + 20);
  for (const char* stage : {"preallocated", "absorbed", "latent"}) {
    CAPTURE(stage);
    Decoder small = make_decoder(Checkpoint(folder), find_stage(stage), {.sequences = 1, .capacity = 20});
    Decoder large = make_decoder(Checkpoint(folder), find_stage(stage), {.sequences = 1, .capacity = 500});
    CHECK(equal_bits(small.logits(0, some), large.logits(0, some)));
  }
}

TEST_CASE("multi-token prediction layers are skipped", "[latent]") {
  Altered altered("deepseek-v3-dense");
  altered.config(R"("num_hidden_layers": 2)", R"("num_hidden_layers": 1)");  // layer 1's tensors are still in the file
  CHECK(altered.error() == "no error");
}

TEST_CASE("bad DeepSeek configs and tensors are named", "[latent]") {
  SECTION("rank 0") {
    CHECK(holds(Altered("deepseek-v3-dense").config(R"("kv_lora_rank": 20)", R"("kv_lora_rank": 0)").error(),
                "kv_lora_rank is 0; it must be at least 1"));
    CHECK(holds(Altered("deepseek-v3-dense").config(R"("q_lora_rank": 24)", R"("q_lora_rank": 0)").error(),
                "q_lora_rank is 0; it must be at least 1"));
  }
  SECTION("odd rope width") {
    CHECK(holds(Altered("deepseek-v3-dense").config(R"("qk_rope_head_dim": 8)", R"("qk_rope_head_dim": 7)").error(),
                "qk_rope_head_dim is 7; RoPE turns pairs, so it must be even"));
  }
  SECTION("fields that are missing") {
    for (const char* key : {"kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"}) {
      CAPTURE(key);
      const std::string quoted = '"' + std::string(key) + '"';
      CHECK(holds(Altered("deepseek-v3-dense").config(quoted, R"("something_else")").error(),
                  std::string(key) + " is missing"));
    }
  }
  SECTION("half-split RoPE is asked for") {
    CHECK(holds(Altered("deepseek-v3-yarn").config(R"("rope_interleave": true)", R"("rope_interleave": false)").error(),
                "only interleaved RoPE"));
  }
  SECTION("mscale_all_dim without a factor") {
    CHECK(holds(Altered("deepseek-v2-yarn").config(R"("factor": 40,)", "").error(), "factor is missing"));
  }
  SECTION("tensors that are missing") {
    CHECK(holds(Altered("deepseek-v3-dense").tensor("0.self_attn.kv_a_layernorm", "0.self_attn.kv_x_layernorm").error(),
                "'model.layers.0.self_attn.kv_a_layernorm.weight' is missing"));
    CHECK(holds(Altered("deepseek-v3-dense").tensor("1.self_attn.kv_b_proj", "1.self_attn.kv_x_proj").error(),
                "'model.layers.1.self_attn.kv_b_proj.weight' is missing"));
    CHECK(holds(Altered("deepseek-v2-yarn").config(R"("q_lora_rank": null)", R"("q_lora_rank": 24)").error(),
                "q_a_proj.weight' is missing"));
  }
  SECTION("another shape") {
    CHECK(holds(Altered("deepseek-v3-dense").config(R"("kv_lora_rank": 20)", R"("kv_lora_rank": 21)").error("preallocated"),
                "kv_a_proj_with_mqa.weight' has shape (28,32), expected (29,32)"));
    CHECK(holds(Altered("deepseek-v3-dense").config(R"("v_head_dim": 10)", R"("v_head_dim": 9)").error(),
                "has shape"));
  }
  SECTION("a partial fp8 block whose scale is missing") {
    const std::string scale = "0.self_attn.kv_b_proj.weight_scale_inv", other = "0.self_attn.kv_b_proj.weight_scale_xxx";
    CHECK(holds(Altered("deepseek-v3-fp8").tensor(scale, other).error(), "scales"));
  }
  SECTION("another quantisation") {
    CHECK(holds(Altered("deepseek-v3-fp8").config(R"("quant_method": "fp8")", R"("quant_method": "awq")").error(),
                "quant_method is 'awq'; of quantised checkpoints, fp8 with weight_block_size"));
    CHECK(holds(Altered("deepseek-v3-fp8").config("128,", "64,").error(), "[128, 128]"));
  }
  SECTION("a stage of latents on a model without") {
    CHECK(holds(error_of([] {
                  make_decoder(Checkpoint(golden_folder("llama-gqa")), find_stage("absorbed"),
                               {.sequences = 1, .capacity = 8});
                }),
                "stage 'absorbed' does not run on"));
  }
}

TEST_CASE("bytes per token of the published models in every layout", "[latent]") {
  using Bytes = std::map<std::string, std::size_t>;
  CHECK(bf16_bytes("deepseek-v2-lite") == Bytes{{"MLA, full K/V (16 heads)", 276'480},
                                                {"MHA (16 heads)", 221'184},
                                                {"GQA-8", 110'592},
                                                {"MQA (1 head)", 13'824},
                                                {"MLA latent", 31'104}});
  CHECK(bf16_bytes("deepseek-v2") == Bytes{{"MLA, full K/V (128 heads)", 4'915'200},
                                           {"MHA (128 heads)", 3'932'160},
                                           {"GQA-8", 245'760},
                                           {"MQA (1 head)", 30'720},
                                           {"MLA latent", 69'120}});
  CHECK(bf16_bytes("deepseek-v3") == Bytes{{"MLA, full K/V (128 heads)", 4'997'120},
                                           {"MHA (128 heads)", 3'997'696},
                                           {"GQA-8", 249'856},
                                           {"MQA (1 head)", 31'232},
                                           {"MLA latent", 70'272}});
}

TEST_CASE("the latent of a published model at 128K tokens, and as groups of GQA", "[latent]") {
  const double gib = 1u << 30;
  CHECK(std::round(bf16_bytes("deepseek-v2-lite")["MLA latent"] * 131072.0 / gib * 100) == 380);
  CHECK(std::round(bf16_bytes("deepseek-v2")["MLA latent"] * 131072.0 / gib * 100) == 844);
  CHECK(std::round(bf16_bytes("deepseek-v3")["MLA latent"] * 131072.0 / gib * 100) == 858);
  for (const char* name : {"deepseek-v2-lite", "deepseek-v2", "deepseek-v3"}) {
    std::map<std::string, std::size_t> bytes = bf16_bytes(name);
    CHECK(static_cast<double>(bytes["MLA latent"]) == 2.25 * static_cast<double>(bytes["MQA (1 head)"]));
  }
}

TEST_CASE("layouts are the bytes that stages allocate", "[latent]") {
  const char* name = GENERATE(from_range(std::begin(latent_cases), std::end(latent_cases)));
  CAPTURE(name);
  const Checkpoint checkpoint(golden_folder(name));
  const index_t layers = model_sizes(checkpoint.config()).layers;
  const auto allocated = [&](const char* stage) {
    return make_decoder(checkpoint, find_stage(stage), {.sequences = 2, .capacity = 10}).state_bytes().allocated;
  };
  for (const Layout& layout : layouts(checkpoint.config())) {
    CAPTURE(layout.name);
    CHECK(layout.is_checkpoints_own == (layout.name == "MLA latent"));
    if (layout.is_checkpoints_own) CHECK(allocated("absorbed") == 20 * bytes_per_token(layout, layers, sizeof(float)));
    if (holds(layout.name, "full K/V"))
      CHECK(allocated("preallocated") == 20 * bytes_per_token(layout, layers, sizeof(float)));
  }
}
