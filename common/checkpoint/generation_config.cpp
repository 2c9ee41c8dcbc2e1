#include "common/checkpoint/generation_config.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>

#include "common/files/error.hpp"
#include "common/files/json.hpp"

namespace kv {
namespace {

/// Keys that are computed here.
constexpr std::string_view computed[] = {"eos_token_id",
                                         "do_sample",
                                         "temperature",
                                         "top_k",
                                         "top_p",
                                         "min_p",
                                         "sequence_bias",
                                         "repetition_penalty",
                                         "no_repeat_ngram_size",
                                         "bad_words_ids",
                                         "min_length",
                                         "min_new_tokens",
                                         "forced_bos_token_id",
                                         "forced_eos_token_id",
                                         "suppress_tokens",
                                         "begin_suppress_tokens"};

/// Keys that change the result in a way that is not computed here.
struct Refused {
  std::string_view key;
  std::optional<double> neutral;  ///< the number (false: 0) that changes nothing; null never does
  bool only_sampled = false;      ///< changes nothing in greedy generation
};
constexpr Refused refused[] = {
    {"num_beams", 1.0},
    {"num_return_sequences", 1.0},
    {"penalty_alpha", 0.0},
    {"guidance_scale", 1.0},
    {"encoder_repetition_penalty", 1.0},
    {"encoder_no_repeat_ngram_size", 0.0},
    {"token_healing", 0.0},
    {"use_mtp", 0.0},
    {"is_assistant", 0.0},
    {"exponential_decay_length_penalty", {}},
    {"watermarking_config", {}},
    {"stop_strings", {}},
    {"max_time", {}},
    {"dola_layers", {}},
    {"constraints", {}},
    {"force_words_ids", {}},
    {"typical_p", 1.0, true},
    {"epsilon_cutoff", 0.0, true},
    {"eta_cutoff", 0.0, true},
    {"top_h", {}, true},
};

/// Keys that may say what they want, and why.
struct Ignored {
  std::string_view key, reason;
};
constexpr std::string_view
    other_limit = "a command says itself how many tokens it wants",
    of_beams = "only matters with several beams, which are refused",
    of_storage = "how state is stored and the program compiled: the result is the same",
    of_speculation = "guesses tokens ahead and checks them: the result is the same",
    of_output = "what else transformers hands out",
    of_padding = "names tokens that a prompt alone does not need", of_origin = "who wrote the file",
    of_others = "transformers does not read it either: other programs do";
constexpr Ignored ignored[] = {
    {"max_length", other_limit},
    {"max_new_tokens", other_limit},
    {"early_stopping", of_beams},
    {"length_penalty", of_beams},
    {"num_beam_groups", of_beams},
    {"diversity_penalty", of_beams},
    {"low_memory", of_beams},
    {"use_cache", of_storage},
    {"cache_config", of_storage},
    {"max_cache_len", of_storage},
    {"prefill_chunk_size", of_storage},
    {"compile_config", of_storage},
    {"disable_compile", of_storage},
    {"continuous_batching_config", of_storage},
    {"num_assistant_tokens", of_speculation},
    {"num_assistant_tokens_schedule", of_speculation},
    {"assistant_confidence_threshold", of_speculation},
    {"assistant_early_exit", of_speculation},
    {"assistant_lookbehind", of_speculation},
    {"assistant_ensemble_weight", "only matters with a second model"},
    {"target_lookbehind", of_speculation},
    {"prompt_lookup_num_tokens", of_speculation},
    {"max_matching_ngram_size", of_speculation},
    {"speculation_type", of_speculation},
    {"output_attentions", of_output},
    {"output_hidden_states", of_output},
    {"output_scores", of_output},
    {"output_logits", of_output},
    {"return_dict_in_generate", of_output},
    {"bos_token_id", of_padding},
    {"pad_token_id", of_padding},
    {"decoder_start_token_id", of_padding},
    {"renormalize_logits", "shifts all logits alike: the draws are the same"},
    {"remove_invalid_values", "logits that are no numbers are an error here"},
    {"transformers_version", of_origin},
    {"_from_model_config", of_origin},
    {"_commit_hash", of_origin},
    {"chat_format", of_others},
    {"max_window_size", of_others},
    {"user_token_id", of_others},
    {"assistant_token_id", of_others},
    {"trust_remote_code", of_others},
};

double as_number(const Json& value) {
  return value.is_flag() ? static_cast<double>(value.flag()) : value.number();
}

[[noreturn]] void refuse(const Json& value) {
  throw Error(value.where() +
              " changes what is generated in a way that is not supported: remove it to do without");
}

void require_computed(const Json& config, bool sample) {
  for (const auto& [key, neutral, only_sampled] : refused) {
    if (!config.has(key) || (only_sampled && !sample)) continue;
    if (const Json value = config.at(key); !neutral || as_number(value) != *neutral) refuse(value);
  }
  if (config.has("cache_implementation") && config.at("cache_implementation").text() == "quantized")
    refuse(config.at("cache_implementation"));
}

/// config.json holds much else; of generation_config.json, every key must be known.
void require_known(const Json& config) {
  for (const std::string& key : config.keys()) {
    const bool known = std::ranges::find(computed, key) != std::end(computed) ||
                       key == "cache_implementation" ||
                       std::ranges::find(refused, key, &Refused::key) != std::end(refused) ||
                       std::ranges::find(ignored, key, &Ignored::key) != std::end(ignored);
    if (!known && config.has(key))
      throw Error(config.at(key).where() +
                  " is not known, and may change what is generated: remove it if it does not");
  }
}

Token token(const Json& value) {
  const std::int64_t id = value.integer();
  if (id < std::numeric_limits<Token>::min() || id > std::numeric_limits<Token>::max())
    throw Error(value.where() + " is no token id: " + std::to_string(id));
  return static_cast<Token>(id);
}

std::vector<Token> tokens(const Json& list) {
  std::vector<Token> result;
  for (index_t i = 0; i < list.length(); ++i) result.push_back(token(list.at(i)));
  return result;
}

/// One or several, or none. Negative ones, which stand for no token, are left out.
std::vector<Token> tokens_or_none(const Json& config, std::string_view key) {
  if (!config.has(key)) return {};
  const Json value = config.at(key);
  std::vector<Token> result = value.is_array() ? tokens(value) : std::vector<Token>{token(value)};
  std::erase_if(result, [](Token id) { return id < 0; });
  return result;
}

index_t size_or(const Json& config, std::string_view key, index_t otherwise) {
  return config.has(key) ? config.at(key).size() : otherwise;
}
double number_or(const Json& config, std::string_view key, double otherwise) {
  return config.has(key) ? config.at(key).number() : otherwise;
}

/// What draws tokens has these limits, too: see Sampler.
void require_sampling(const Json& config, const GenerationConfig& found) {
  if (found.temperature == 0.0)
    throw Error(config.at("temperature").where() + " is 0, but do_sample is true: one of them must change");
  if (!(found.temperature > 0.0)) throw Error(config.at("temperature").where() + " must be a number above 0");
  if (!(found.top_p > 0.0 && found.top_p <= 1.0)) throw Error(config.at("top_p").where() + " must lie above 0 and be at most 1");
  if (!(found.min_p >= 0.0 && found.min_p <= 1.0)) throw Error(config.at("min_p").where() + " must lie between 0 and 1");
}

/// Tokens that stand in a row.
std::vector<Token> sequence(const Json& list) {
  std::vector<Token> result = tokens(list);
  if (result.empty() || std::ranges::any_of(result, [](Token id) { return id < 0; }))
    throw Error(list.where() + " must be a list of token ids");
  return result;
}

LogitRules read_rules(const Json& config, const std::vector<Token>& stop) {
  LogitRules rules;
  if (config.has("sequence_bias")) {
    const Json list = config.at("sequence_bias");
    for (index_t i = 0; i < list.length(); ++i) {
      const float bias = static_cast<float>(list.at(i).at(index_t{1}).number());
      if (!std::isfinite(bias)) throw Error(list.at(i).where() + " has a bias that is no 32-bit number");
      rules.sequence_bias[sequence(list.at(i).at(index_t{0}))] = bias;
    }
  }
  rules.repetition_penalty = static_cast<float>(number_or(config, "repetition_penalty", 1.0));
  if (!(rules.repetition_penalty > 0.0f) || !std::isfinite(rules.repetition_penalty))
    throw Error(config.at("repetition_penalty").where() + " must be a number above 0");
  if (config.has("no_repeat_ngram_size"))
    rules.no_repeat_ngram = static_cast<index_t>(
        std::max<std::int64_t>(config.at("no_repeat_ngram_size").integer(), 0));
  if (config.has("bad_words_ids")) {
    const Json list = config.at("bad_words_ids");
    for (index_t i = 0; i < list.length(); ++i) rules.bad_words.push_back(sequence(list.at(i)));
    std::erase_if(rules.bad_words, [&](const std::vector<Token>& word) {
      return word.size() == 1 && std::ranges::find(stop, word[0]) != stop.end();
    });
  }
  rules.min_new_tokens = size_or(config, "min_new_tokens", 0);
  if (!config.has("min_new_tokens")) rules.min_length = size_or(config, "min_length", 0);
  if (config.has("forced_bos_token_id"))
    rules.forced_first = token(config.at("forced_bos_token_id"));
  rules.forced_last = tokens_or_none(config, "forced_eos_token_id");
  rules.suppressed = tokens_or_none(config, "suppress_tokens");
  rules.suppressed_first = tokens_or_none(config, "begin_suppress_tokens");
  return rules;
}

std::pair<Json, bool> source(const std::filesystem::path& checkpoint) {
  const auto own = checkpoint / "generation_config.json";
  const bool has_own = std::filesystem::exists(own);
  return {Json::read(has_own ? own : checkpoint / "config.json"), has_own};
}

}  // namespace

GenerationConfig read_generation_config(const std::filesystem::path& checkpoint,
                                        std::optional<bool> sample) {
  const auto [config, has_own] = source(checkpoint);
  GenerationConfig result;
  result.sample = sample.value_or(config.has("do_sample") && config.at("do_sample").flag());
  if (has_own) require_known(config);
  require_computed(config, result.sample);
  result.stop = tokens_or_none(config, "eos_token_id");
  result.rules = read_rules(config, result.stop);
  if (!result.sample) return result;
  result.temperature = number_or(config, "temperature", result.temperature);
  result.top_k = size_or(config, "top_k", result.top_k);
  result.top_p = number_or(config, "top_p", result.top_p);
  result.min_p = number_or(config, "min_p", result.min_p);
  require_sampling(config, result);
  return result;
}

std::vector<Token> stop_tokens(const std::filesystem::path& checkpoint) {
  return tokens_or_none(source(checkpoint).first, "eos_token_id");
}

}  // namespace kv
