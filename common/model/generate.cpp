#include "common/model/generate.hpp"

#include <algorithm>

#include "common/files/error.hpp"

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

/// A text that is being written.
struct Text {
  index_t prompt;         ///< its number
  index_t prompt_length;  ///< with what the decoder held before
  Sampler sampler;        ///< its own, so that its draws do not depend on who else is in the batch
  NewTokens next;         ///< to be fed
};

std::vector<Text> begin(const Decoder& decoder, const std::vector<NewTokens>& prompts, const Sampling& sampling) {
  std::vector<Text> texts;
  for (const NewTokens& prompt : prompts)
    texts.push_back({texts.size(), decoder.length(prompt.sequence) + prompt.tokens.size(), Sampler(sampling), prompt});
  return texts;
}

std::vector<NewTokens> batch_of(std::vector<Text>& texts) {
  std::vector<NewTokens> batch;
  for (Text& text : texts) batch.push_back(std::move(text.next));
  return batch;
}

}  // namespace

Token draw(Sampler& sampler, std::span<const float> logits, const LogitRules& rules, const Place& place) {
  if (rules == LogitRules{}) return sampler.next(logits);
  std::vector<float> ruled(logits.begin(), logits.end());
  apply(rules, place, ruled);
  return sampler.next(ruled);
}

namespace {

/// Of every text in the batch the next token, and the logits (B,V) where somebody wants to see them.
struct Drawn {
  std::vector<Token> tokens;
  Tensor<2> logits = empty<2>({0, 0});

  Drawn(Decoder& decoder, std::vector<Text>& texts, const std::vector<NewTokens>& batch, const GenerateOptions& options) {
    if (options.sampling.temperature == 0.0 && options.rules == LogitRules{} && !options.on_logits) {
      tokens = decoder.most_likely(batch);
      return;
    }
    logits = decoder.last_logits(batch);
    for (index_t b = 0; b < texts.size(); ++b) {
      const Place place{decoder.tokens(batch[b].sequence), texts[b].prompt_length, options.max_new_tokens, options.stop};
      tokens.push_back(draw(texts[b].sampler, row(logits, b), options.rules, place));
    }
  }
};

}  // namespace

Generation generate(Decoder& decoder, const std::vector<NewTokens>& prompts, const GenerateOptions& options) {
  require_room(decoder, prompts, options.max_new_tokens);
  Generation result;
  result.tokens.resize(prompts.size());
  result.metrics.batch = prompts.size();
  std::vector<Text> texts = begin(decoder, prompts, options.sampling);
  for (index_t step = 0; step < options.max_new_tokens && !texts.empty(); ++step) {
    const Stopwatch watch;
    const std::vector<NewTokens> batch = batch_of(texts);
    const Drawn drawn(decoder, texts, batch, options);
    for (index_t b = 0; b < texts.size(); ++b) {
      if (step == 0) decoder.prompt_ends(batch[b].sequence);
      texts[b].next = {batch[b].sequence, {drawn.tokens[b]}};
    }
    if (step == 0)
      result.metrics.prefill_ms = watch.milliseconds();
    else
      result.metrics.step_ms.push_back(watch.milliseconds());
    for (index_t b = 0; b < texts.size(); ++b) {
      result.tokens[texts[b].prompt].push_back(drawn.tokens[b]);
      if (options.on_logits) options.on_logits(batch[b].sequence, row(drawn.logits, b));
      options.on_token(batch[b].sequence, drawn.tokens[b]);
    }
    std::erase_if(texts, [&](const Text& text) { return contains(options.stop, text.next.tokens.front()); });
  }
  for (const NewTokens& prompt : prompts) result.metrics.prompt_tokens += prompt.tokens.size();
  for (const auto& tokens : result.tokens) result.metrics.new_tokens += tokens.size();
  result.metrics.state_bytes = decoder.state_bytes();
  for (const NewTokens& prompt : prompts) result.metrics.state_tokens += decoder.length(prompt.sequence);
  return result;
}

}  // namespace kv
