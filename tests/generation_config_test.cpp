/// generation_config.json: every key that changes the result is computed as transformers does, or
/// refused by name.
#include "common/checkpoint/generation_config.hpp"

#include <cmath>
#include <limits>
#include <sstream>

#include "common/model/generate.hpp"
#include "common/model/logit_rules.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/decoders.hpp"
#include "tests/support/temporary.hpp"

using namespace kv;

namespace {

const Json& golden() {
  static const Json cases = Json::read(std::filesystem::path(KV_GOLDEN) / "generation.json");
  return cases;
}

/// A checkpoint that has nothing but these files.
GenerationConfig read(const std::string& generation_config, const std::string& config = "{}",
                      std::optional<bool> sample = {}) {
  const TemporaryDirectory checkpoint;
  if (!generation_config.empty()) checkpoint.write("generation_config.json", generation_config);
  checkpoint.write("config.json", config);
  return read_generation_config(checkpoint.path(), sample);
}
std::string error(const std::string& config) {
  return error_of([&] { read(config); });
}

/// A JSON value as text, to be written into a file again.
std::string text_of(const Json& value) {
  std::string result;
  if (value.is_null()) return "null";
  if (value.is_flag()) return value.flag() ? "true" : "false";
  if (value.is_number()) {
    std::ostringstream number;
    number << value.number();
    return number.str();
  }
  if (value.is_array()) {
    for (index_t i = 0; i < value.length(); ++i)
      result += (i == 0 ? "" : ",") + text_of(value.at(i));
    return "[" + result + "]";
  }
  for (const std::string& key : value.keys())
    result += (result.empty() ? "\"" : ",\"") + key + "\":" + text_of(value.at(key));
  return "{" + result + "}";
}

template <class T>
std::vector<T> list_of(const Json& list) {
  std::vector<T> values;
  for (index_t i = 0; i < list.length(); ++i)
    values.push_back(list.at(i).is_null() ? std::numeric_limits<T>::lowest()
                                          : static_cast<T>(list.at(i).number()));
  return values;
}

}  // namespace

TEST_CASE("logits after the rules are those of transformers' processors", "[generation]") {
  const Json cases = golden().at("rules");
  REQUIRE(cases.length() > 90);
  for (index_t i = 0; i < cases.length(); ++i) {
    const Json expected = cases.at(i);
    const GenerationConfig config = read(text_of(expected.at("config")));
    const auto tokens = list_of<Token>(expected.at("tokens"));
    std::vector<float> logits = list_of<float>(expected.at("logits"));
    apply(config.rules,
          {tokens, expected.at("prompt").size(), expected.at("max_new_tokens").size(), config.stop},
          logits);
    const auto wanted = list_of<float>(expected.at("expected"));
    REQUIRE(logits.size() == wanted.size());
    CAPTURE(text_of(expected.at("config")), tokens);
    for (index_t v = 0; v < logits.size(); ++v) {
      CAPTURE(v);
      if (wanted[v] == std::numeric_limits<float>::lowest())
        CHECK(logits[v] == -std::numeric_limits<float>::infinity());
      else CHECK(logits[v] == Approx(wanted[v]).margin(2e-6));
    }
  }
}

TEST_CASE("temperature, top-k, top-p and min-p leave what transformers leaves", "[generation]") {
  const Json cases = golden().at("warpers");
  constexpr index_t draws = 20000;
  for (index_t i = 0; i < cases.length(); ++i) {
    const GenerationConfig config = read(text_of(cases.at(i).at("config")));
    REQUIRE(config.sample);
    Sampler sampler({.temperature = config.temperature,
                     .top_k = config.top_k,
                     .top_p = config.top_p,
                     .min_p = config.min_p});
    const auto logits = list_of<float>(cases.at(i).at("logits"));
    const auto probabilities = list_of<double>(cases.at(i).at("probabilities"));
    std::vector<index_t> counts(logits.size());
    for (index_t draw = 0; draw < draws; ++draw)
      ++counts[static_cast<index_t>(sampler.next(logits))];
    CAPTURE(text_of(cases.at(i).at("config")), counts);
    for (index_t v = 0; v < logits.size(); ++v) {
      const double p = probabilities[v];
      CHECK(static_cast<double>(counts[v]) / draws ==
            Approx(p).margin(4.5 * std::sqrt(p * (1 - p) / draws)));
    }
  }
}

TEST_CASE("generations are those of transformers", "[generation]") {
  const Json cases = golden().at("generations");
  for (index_t i = 0; i < cases.length(); ++i) {
    const Json expected = cases.at(i);
    const GenerationConfig config = read(text_of(expected.at("config")));
    const Checkpoint checkpoint(std::filesystem::path(KV_GOLDEN) / "models" /
                                expected.at("model").text());
    Decoder decoder =
        make_decoder(checkpoint, find_stage("preallocated"), {.sequences = 1, .capacity = 32});
    GenerateOptions options{.max_new_tokens = expected.at("max_new_tokens").size(),
                            .rules = config.rules,
                            .sampling = {},
                            .stop = config.stop};
    if (config.sample)
      options.sampling = {.temperature = config.temperature,
                          .top_k = config.top_k,
                          .top_p = config.top_p,
                          .min_p = config.min_p};
    CAPTURE(text_of(expected.at("config")));
    CHECK(generate(decoder, {{0, list_of<Token>(expected.at("prompt"))}}, options).tokens[0] ==
          list_of<Token>(expected.at("tokens")));
  }
}

TEST_CASE("rules hold for each sequence of a batch, and for what a decoder held before",
          "[generation]") {
  const Checkpoint checkpoint(std::filesystem::path(KV_GOLDEN) / "models" / "llama-gqa");
  const LogitRules rules =
      read(R"({"repetition_penalty": 1.8, "no_repeat_ngram_size": 2, "min_new_tokens": 4})").rules;
  const auto answers = [&](const std::vector<NewTokens>& held,
                           const std::vector<NewTokens>& prompts) {
    Decoder decoder =
        make_decoder(checkpoint, find_stage("preallocated"), {.sequences = 2, .capacity = 32});
    if (!held.empty()) decoder.logits(held);
    return generate(decoder, prompts,
                    {.max_new_tokens = 9, .rules = rules, .sampling = {}, .stop = {51, 52}})
        .tokens;
  };
  const std::vector<Token> one{5, 9, 33, 2, 40}, other{70, 12, 9};
  const auto both = answers({}, {{0, one}, {1, other}});
  CHECK(both[0] == answers({}, {{0, one}})[0]);
  CHECK(both[1] == answers({}, {{1, other}})[0]);
  CHECK(both[0] == answers({{0, {5, 9}}}, {{0, {33, 2, 40}}})[0]);
}

TEST_CASE("where transformers reads its defaults from", "[generation]") {
  // a file of its own counts alone; without one, config.json is read for the same keys
  CHECK(read(R"({"eos_token_id": 3})", R"({"eos_token_id": 2, "repetition_penalty": 2.0})").stop ==
        std::vector<Token>{3});
  CHECK(read(R"({})", R"({"eos_token_id": 2})").stop.empty());
  CHECK(read(R"({"eos_token_id": null})", R"({"eos_token_id": 2})").stop.empty());
  CHECK(read("", R"({"eos_token_id": [2, 7], "hidden_size": 5})").stop == std::vector<Token>{2, 7});
  CHECK(read("", R"({"repetition_penalty": 2.0})").rules.repetition_penalty == 2.0f);
  CHECK(read(R"({})", R"({"repetition_penalty": 2.0})").rules == LogitRules{});
  CHECK(read(R"({"eos_token_id": -1})").stop.empty());
  const TemporaryDirectory checkpoint;
  checkpoint.write("config.json", R"({"eos_token_id": 4, "num_beams": 3})");
  CHECK(stop_tokens(checkpoint.path()) == std::vector<Token>{4});

  const GenerationConfig silent = read(R"({"do_sample": true})");
  CHECK(silent.sample);
  CHECK(silent.temperature == 1.0);
  CHECK(silent.top_k == 50);
  CHECK(silent.top_p == 1.0);
  CHECK_FALSE(read(R"({"temperature": 0.5, "top_p": 0.1})").sample);
  CHECK(read(R"({"temperature": 0.5, "top_k": 0})", "{}", true).temperature == 0.5);
  CHECK_FALSE(read(R"({"do_sample": true})", "{}", false).sample);
}

TEST_CASE("keys that change the result and are not computed are refused by name", "[generation]") {
  const auto [key, value] =
      GENERATE(table<std::string, std::string>({{"num_beams", "4"},
                                                {"num_return_sequences", "2"},
                                                {"penalty_alpha", "0.6"},
                                                {"guidance_scale", "1.5"},
                                                {"encoder_repetition_penalty", "1.2"},
                                                {"encoder_no_repeat_ngram_size", "2"},
                                                {"token_healing", "true"},
                                                {"use_mtp", "true"},
                                                {"exponential_decay_length_penalty", "[5, 1.1]"},
                                                {"watermarking_config", R"({"bias": 2.0})"},
                                                {"stop_strings", R"(["x"])"},
                                                {"max_time", "5.0"},
                                                {"dola_layers", R"("high")"},
                                                {"constraints", "[1]"},
                                                {"force_words_ids", "[[1]]"},
                                                {"cache_implementation", R"("quantized")"},
                                                {"typical_p", "0.5"},
                                                {"epsilon_cutoff", "0.001"},
                                                {"eta_cutoff", "0.001"},
                                                {"top_h", "0.4"}}));
  CAPTURE(key);
  CHECK(holds(error(R"({"do_sample": true, ")" + key + "\": " + value + "}"),
              "generation_config.json: " + key + " changes"));
}

TEST_CASE("a key of generation_config.json that is not known is refused by name", "[generation]") {
  CHECK(holds(error(R"({"foresight": 3})"), "generation_config.json: foresight is not known"));
}

TEST_CASE("keys that change nothing may stand there", "[generation]") {
  const GenerationConfig config =
      read(R"({"num_beams": 1, "num_return_sequences": 1, "penalty_alpha": 0, "guidance_scale": 1.0,
      "encoder_repetition_penalty": 1.0, "encoder_no_repeat_ngram_size": 0, "token_healing": false, "watermarking_config": null,
      "typical_p": 0.5, "top_h": 0.2, "epsilon_cutoff": 0.5, "max_length": 4096, "max_new_tokens": 20, "early_stopping": true,
      "length_penalty": 2.0, "use_cache": false, "cache_implementation": "static", "prompt_lookup_num_tokens": 3,
      "output_scores": true, "bos_token_id": 1, "pad_token_id": 0, "renormalize_logits": true, "remove_invalid_values": true,
      "transformers_version": "5.24.0", "_from_model_config": true, "chat_format": "chatml", "foresight": null,
      "repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "min_length": 0})");
  CHECK(config.rules == LogitRules{});
  CHECK_FALSE(config.sample);
}

TEST_CASE("values out of range are refused by name", "[generation]") {
  CHECK(
      holds(error(R"({"repetition_penalty": 0})"), "repetition_penalty must be a number above 0"));
  CHECK(holds(error(R"({"repetition_penalty": -1.5})"), "repetition_penalty must be"));
  CHECK(holds(error(R"({"repetition_penalty": 1e300})"), "repetition_penalty must be"));
  CHECK(holds(error(R"({"repetition_penalty": "1.2"})"), "repetition_penalty is text"));
  CHECK(holds(error(R"({"bad_words_ids": [[]]})"), "bad_words_ids[0] must be a list of token ids"));
  CHECK(holds(error(R"({"bad_words_ids": [[-1]]})"), "bad_words_ids[0] must be"));
  CHECK(holds(error(R"({"bad_words_ids": [3]})"), "bad_words_ids[0] is a whole number"));
  CHECK(holds(error(R"({"suppress_tokens": [4294967296]})"), "suppress_tokens[0] is no token id"));
  CHECK(holds(error(R"({"min_new_tokens": -1})"), "min_new_tokens is negative"));
  CHECK(holds(error(R"({"do_sample": true, "top_k": -1})"), "top_k is negative"));
  CHECK(holds(error(R"({"sequence_bias": [[[1]]]})"), "sequence_bias[0][1] is missing"));
  CHECK(holds(error(R"({"sequence_bias": [[[1], 1e300]]})"), "sequence_bias[0] has a bias"));
  for (const char* text : {R"({"do_sample": true, "temperature": -0.5})", R"({"do_sample": true, "temperature": 0})", R"({"do_sample": true, "top_p": 0})",
                           R"({"do_sample": true, "top_p": 1.5})", R"({"do_sample": true, "min_p": -0.1})", R"({"do_sample": true, "min_p": 2})"}) {
    CAPTURE(text);
    const std::string key = std::string(text).substr(20, std::string(text).find('"', 20) - 20);
    CHECK(holds(error(text), "generation_config.json: " + key));
  }
  CHECK_FALSE(read(R"({"temperature": 0, "top_p": 7})").sample);  // tokens are not drawn
  CHECK(holds(error_of([] { Sampler({.temperature = 1.0, .min_p = 1.5}); }), "min-p"));

  std::vector<float> logits(4);
  const std::vector<Token> tokens{1};
  for (const char* config : {R"({"bad_words_ids": [[9]]})", R"({"sequence_bias": [[[1, 9], 1.0]]})",
                             R"({"forced_bos_token_id": 9})"})
    CHECK(holds(error_of([&] {
                  apply(read(config).rules, {tokens, 1, 5, {}}, logits);
                }),
                "token 9, which is outside the vocabulary of 4"));
}
