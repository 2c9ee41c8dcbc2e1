#include "common/model/logit_rules.hpp"

#include <algorithm>
#include <limits>
#include <set>

#include "common/files/error.hpp"

namespace kv {
namespace {

constexpr float never = -std::numeric_limits<float>::infinity();

float& at(std::span<float> logits, Token token, const char* key) {
  if (token < 0 || static_cast<index_t>(token) >= logits.size())
    throw Error(std::string("generation_config.json: ") + key + " names token " +
                std::to_string(token) + ", which is outside the vocabulary of " +
                std::to_string(logits.size()));
  return logits[static_cast<index_t>(token)];
}

/// Tokens beyond the vocabulary cannot be drawn anyway.
void forbid(std::span<float> logits, std::span<const Token> tokens) {
  for (const Token token : tokens)
    if (token >= 0 && static_cast<index_t>(token) < logits.size())
      logits[static_cast<index_t>(token)] = never;
}

void force(std::span<float> logits, std::span<const Token> tokens, const char* key) {
  std::ranges::fill(logits, never);
  for (const Token token : tokens) at(logits, token, key) = 0.0f;
}

/// All but the last token of a sequence stand at the end of what is there.
bool may_end(std::span<const Token> so_far, std::span<const Token> sequence) {
  const auto before = sequence.first(sequence.size() - 1);
  return before.size() <= so_far.size() && std::ranges::equal(so_far.last(before.size()), before);
}

void add_bias(std::span<float> logits, const std::vector<Token>& sequence, float bias,
              std::span<const Token> so_far, const char* key) {
  for (const Token token : sequence) at(logits, token, key);
  if (may_end(so_far, sequence)) at(logits, sequence.back(), key) += bias;
}

void penalise_repetition(std::span<float> logits, float penalty, std::span<const Token> so_far) {
  for (const Token token : std::set<Token>(so_far.begin(), so_far.end())) {
    if (static_cast<index_t>(token) >= logits.size()) continue;
    float& logit = logits[static_cast<index_t>(token)];
    logit = logit < 0.0f ? logit * penalty : logit / penalty;
  }
}

void forbid_repeated_ngrams(std::span<float> logits, index_t n, std::span<const Token> so_far) {
  if (so_far.size() < n) return;
  const auto last = so_far.last(n - 1);
  for (index_t i = 0; i + n <= so_far.size(); ++i)
    if (std::ranges::equal(so_far.subspan(i, n - 1), last))
      forbid(logits, so_far.subspan(i + n - 1, 1));
}

}  // namespace

void apply(const LogitRules& rules, const Place& place, std::span<float> logits) {
  const index_t length = place.so_far.size(), answered = length - place.prompt;
  for (const auto& [sequence, bias] : rules.sequence_bias)
    add_bias(logits, sequence, bias, place.so_far, "sequence_bias");
  if (rules.repetition_penalty != 1.0f)
    penalise_repetition(logits, rules.repetition_penalty, place.so_far);
  if (rules.no_repeat_ngram > 0)
    forbid_repeated_ngrams(logits, rules.no_repeat_ngram, place.so_far);
  for (const auto& word : rules.bad_words)
    add_bias(logits, word, never, place.so_far, "bad_words_ids");
  if (length < rules.min_length || answered < rules.min_new_tokens) forbid(logits, place.stop);
  if (rules.forced_first && length == 1)
    force(logits, {&*rules.forced_first, 1}, "forced_bos_token_id");
  if (!rules.forced_last.empty() && answered + 1 == place.max_new_tokens)
    force(logits, rules.forced_last, "forced_eos_token_id");
  forbid(logits, rules.suppressed);
  const index_t first =
      rules.forced_first && place.prompt == 1 ? 1 : 0;  // the forced one is not counted
  if (answered == first) forbid(logits, rules.suppressed_first);
}

}  // namespace kv
