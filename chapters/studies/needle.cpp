#include "chapters/studies/needle.hpp"

#include <algorithm>
#include <cmath>
#include <random>

#include "common/files/error.hpp"
#include "common/model/metrics.hpp"
#include "common/model/sampler.hpp"
#include "common/tensor/tensor.hpp"

namespace kv {
namespace {

constexpr std::string_view gap = "{}";
constexpr index_t value_digits = 3, piece_tokens = 512;

std::string require_gap(const Json& value) {
  const std::string text = value.text();
  const index_t at = text.find(gap);
  if (at == text.npos || text.find(gap, at + 1) != text.npos)
    throw Error(value.where() + " must have one {}, where the value goes");
  return text;
}

std::string filled(std::string text, const std::string& value) {
  return text.replace(text.find(gap), gap.size(), value);
}

/// Digits of which no two are alike: after each there is one that may follow.
std::string draw_value(std::mt19937_64& random) {
  std::string digits = "0123456789";
  for (index_t i = 0; i < value_digits; ++i)
    std::swap(digits[i], digits[i + random() % (digits.size() - i)]);
  return digits.substr(0, value_digits);
}

bool ends_sentence(std::string text) {
  while (text.ends_with('"')) text.pop_back();
  return text.ends_with('.');
}

void append(std::vector<Token>& tokens, const std::vector<Token>& more) {
  tokens.insert(tokens.end(), more.begin(), more.end());
}

/// @return the last token's logits, (1,V)
Tensor<2> feed(Decoder& decoder, const std::vector<Token>& prompt,
               const std::function<void(index_t)>& on_piece) {
  Tensor<2> logits;
  index_t fed = 0, count = std::min(piece_tokens, prompt.size());
  while (count > 0) {
    const auto first = prompt.begin() + static_cast<std::ptrdiff_t>(fed);
    logits = decoder.last_logits({{0, {first, first + static_cast<std::ptrdiff_t>(count)}}});
    fed += count;
    if (on_piece) on_piece(fed);
    // Where nothing is remembered every piece begins with the first token again: then the rest had
    // better be one piece.
    const index_t left = prompt.size() - fed;
    count = decoder.remembered(0) == 0 ? left : std::min(piece_tokens, left);
  }
  return logits;
}

}  // namespace

NeedleTask read_needle_task(const Json& file) {
  return {.needle = require_gap(file.at("needle")),
          .question = file.at("question").text(),
          .answer = require_gap(file.at("answer"))};
}

Haystack::Haystack(const Tokenizer& tokenizer, std::vector<Token> begin, const std::string& hay,
                   NeedleTask task)
    : tokenizer_(&tokenizer), begin_(std::move(begin)), task_(std::move(task)) {
  for (const Token token : tokenizer.encode(hay)) {
    if (tokenizer.is_special(token)) continue;
    hay_.push_back(token);
    ends_sentence_.push_back(ends_sentence(tokenizer.decode(std::span(&token, 1))));
    if (ends_sentence_.back()) ends_.push_back(hay_.size());
  }
  if (hay_.empty()) throw Error("the hay is empty: there is nothing to hide a needle in");
  if (ends_.empty()) ends_.push_back(hay_.size());
}

NeedleText Haystack::text(index_t length, double depth, index_t trial) const {
  std::seed_seq seed{length, static_cast<index_t>(std::lround(depth * 1e6)), trial};
  std::mt19937_64 random(seed);
  const std::string value = draw_value(random);
  const std::vector<Token> needle = tokenizer_->encode(filled(task_.needle, value)),
                           question = tokenizer_->encode(task_.question);
  NeedleText text{.prompt = begin_, .answer = tokenizer_->encode(filled(task_.answer, value))};
  const index_t taken = begin_.size() + needle.size() + question.size() + text.answer.size();
  if (length <= taken)
    throw Error("a text of " + std::to_string(length) +
                " tokens is too short: needle, question and answer are " + std::to_string(taken) +
                " without any hay");

  const index_t count = length - taken, size = hay_.size();
  const index_t end = ends_[random() % ends_.size()] + count / size * size + size,
                first = end - count;
  const index_t place = sentence_end(
      first, first + static_cast<index_t>(std::lround(depth * static_cast<double>(count))));
  for (index_t i = first; i < place; ++i) text.prompt.push_back(hay_[i % size]);
  append(text.prompt, needle);
  for (index_t i = place; i < end; ++i) text.prompt.push_back(hay_[i % size]);
  append(text.prompt, question);
  return text;
}

index_t Haystack::sentence_end(index_t first, index_t last) const {
  for (index_t i = last; i > first; --i)
    if (ends_sentence_[(i - 1) % hay_.size()]) return i;
  return last;
}

NeedleAnswer ask(Decoder& decoder, const NeedleText& text,
                 const std::function<void(index_t)>& on_piece) {
  const Stopwatch watch;
  decoder.truncate(0, 0);
  Tensor<2> logits = feed(decoder, text.prompt, on_piece);
  decoder.prompt_ends(0);
  NeedleAnswer answer{
      .asked = decoder.remembered(0) == 0 ? 1 : text.answer.size(), .right = 0, .seconds = 0};
  Sampler greedy{Sampling{}};
  while (greedy.next(row(logits, 0)) == text.answer[answer.right] && ++answer.right < answer.asked)
    logits = decoder.last_logits({{0, {text.answer[answer.right - 1]}}});
  answer.seconds = watch.milliseconds() / 1000;
  return answer;
}

}  // namespace kv
