#include "common/model/generate.hpp"

#include <algorithm>

#include "common/files/error.hpp"
#include "common/model/logit_rules.hpp"

namespace kv {
namespace {

void require_room(const Decoder& decoder, const std::vector<NewTokens>& prompts, index_t max_new_tokens) {
  for (const auto& [sequence, tokens] : prompts) {
    if (sequence >= decoder.limits().sequences) continue;  // require_valid names it
    const index_t held = decoder.length(sequence) + tokens.size(), capacity = decoder.limits().capacity;
    if (held > capacity || max_new_tokens > capacity - held + 1)  // the last one is not fed
      throw Error("a prompt of " + std::to_string(held) + " tokens and " + std::to_string(max_new_tokens) +
                  " new ones do not fit the capacity of " + std::to_string(capacity) +
                  ": shorten the prompt, ask for fewer new tokens, or raise the capacity");
  }
  decoder.require_valid(prompts);
}

bool contains(const std::vector<Token>& tokens, Token token) { return std::ranges::find(tokens, token) != tokens.end(); }

/// What a token is drawn from: the logits, after the rules.
Token draw(Sampler& sampler, std::span<const float> logits, const GenerateOptions& options, const Place& place) {
  if (options.rules == LogitRules{}) return sampler.next(logits);
  std::vector<float> ruled(logits.begin(), logits.end());
  apply(options.rules, place, ruled);
  return sampler.next(ruled);
}

}  // namespace

Generation generate(Decoder& decoder, const std::vector<NewTokens>& prompts, const GenerateOptions& options) {
  require_room(decoder, prompts, options.max_new_tokens);
  Generation result;
  result.tokens.resize(prompts.size());
  result.metrics.batch = prompts.size();
  // A sampler for each sequence, so that its draws do not depend on who else is in the batch.
  std::vector<Sampler> samplers(prompts.size(), Sampler(options.sampling));
  std::vector<NewTokens> batch = prompts;
  std::vector<index_t> owner(prompts.size());  // batch row -> prompt
  for (index_t i = 0; i < owner.size(); ++i) owner[i] = i;
  std::vector<index_t> prompt_lengths;  // with what the decoder held before
  for (const NewTokens& prompt : prompts) prompt_lengths.push_back(decoder.length(prompt.sequence) + prompt.tokens.size());

  for (index_t step = 0; step < options.max_new_tokens && !batch.empty(); ++step) {
    const Stopwatch watch;
    const Tensor<2> logits = decoder.last_logits(batch);
    if (step == 0)
      for (const NewTokens& prompt : prompts) decoder.prompt_ends(prompt.sequence);
    std::vector<NewTokens> next_batch;
    std::vector<index_t> next_owner;
    for (index_t b = 0; b < batch.size(); ++b) {
      const Place place{decoder.tokens(batch[b].sequence), prompt_lengths[owner[b]], options.max_new_tokens, options.stop};
      const Token token = draw(samplers[owner[b]], row(logits, b), options, place);
      result.tokens[owner[b]].push_back(token);
      if (contains(options.stop, token)) continue;
      next_batch.push_back({batch[b].sequence, {token}});
      next_owner.push_back(owner[b]);
    }
    if (step == 0)
      result.metrics.prefill_ms = watch.milliseconds();
    else
      result.metrics.step_ms.push_back(watch.milliseconds());
    for (index_t b = 0; b < batch.size(); ++b) {
      options.on_logits(batch[b].sequence, row(logits, b));
      options.on_token(batch[b].sequence, result.tokens[owner[b]].back());
    }
    batch = std::move(next_batch);
    owner = std::move(next_owner);
  }
  for (const NewTokens& prompt : prompts) result.metrics.prompt_tokens += prompt.tokens.size();
  for (const auto& tokens : result.tokens) result.metrics.new_tokens += tokens.size();
  result.metrics.state_bytes = decoder.state_bytes();
  for (const NewTokens& prompt : prompts) result.metrics.state_tokens += decoder.length(prompt.sequence);
  return result;
}

}  // namespace kv
