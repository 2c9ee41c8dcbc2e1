#include "common/model/decoder.hpp"

#include <algorithm>

#include "common/files/error.hpp"

namespace kv {

Decoder::Decoder(std::unique_ptr<Transformer> transformer, const Limits& limits)
    : transformer_(std::move(transformer)), limits_(limits), tokens_(limits.sequences) {
  for (std::vector<Token>& tokens : tokens_) tokens.reserve(limits.capacity);  // no step moves them
}

template <class Result>
Result Decoder::feed(const std::vector<NewTokens>& batch, std::vector<index_t> Step::*wanted, Ask<Result> ask) {
  require_valid(batch);
  step_.clear();
  for (const NewTokens& part : batch) step_.lengths_before.push_back(length(part.sequence));
  try {
    for (const NewTokens& part : batch) append(part);
    return (transformer_.get()->*ask)(step_.fed, step_.segments, step_.*wanted);
  } catch (...) {
    for (index_t b = 0; b < batch.size(); ++b) truncate(batch[b].sequence, step_.lengths_before[b]);
    throw;
  }
}

Tensor<2> Decoder::logits(const std::vector<NewTokens>& batch) {
  return feed(batch, &Step::rows_of_new_tokens, &Transformer::logits);
}
Tensor<2> Decoder::last_logits(const std::vector<NewTokens>& batch) { return feed(batch, &Step::last_rows, &Transformer::logits); }
std::vector<Token> Decoder::most_likely(const std::vector<NewTokens>& batch) {
  return feed(batch, &Step::last_rows, &Transformer::most_likely);
}

// [feed]
/// The transformer is fed what it does not remember: the new tokens, or, uncached, the whole
/// sequence.
void Decoder::append(const NewTokens& part) {
  auto& [fed, segments, rows_of_new_tokens, last_rows, lengths_before] = step_;
  std::vector<Token>& all = tokens_[part.sequence];
  all.insert(all.end(), part.tokens.begin(), part.tokens.end());
  const index_t known = remembered(part.sequence);
  const std::span<const Token> unknown = std::span(all).subspan(known);
  segments.push_back({part.sequence, fed.size(), unknown.size(), known, unknown});
  fed.insert(fed.end(), unknown.begin(), unknown.end());
  for (index_t i = fed.size() - part.tokens.size(); i < fed.size(); ++i)
    rows_of_new_tokens.push_back(i);
  last_rows.push_back(fed.size() - 1);
}
// [feed]

void Decoder::Step::clear() {
  fed.clear();
  segments.clear();
  rows_of_new_tokens.clear();
  last_rows.clear();
  lengths_before.clear();
}

void Decoder::require_valid(const std::vector<NewTokens>& batch) const {
  for (const auto& [sequence, tokens] : batch) {
    if (sequence >= tokens_.size())
      throw Error("sequence " + std::to_string(sequence) + " does not exist: the decoder was made for " +
                  std::to_string(tokens_.size()));
    if (std::ranges::count(batch, sequence, &NewTokens::sequence) > 1)
      throw Error("sequence " + std::to_string(sequence) + " stands twice in one batch");
    if (tokens.empty()) throw Error("sequence " + std::to_string(sequence) + " has no new tokens");
    for (const Token token : tokens)
      if (token < 0 || static_cast<index_t>(token) >= vocabulary())
        throw Error("token id " + std::to_string(token) + " is outside the vocabulary of " +
                    std::to_string(vocabulary()));
    if (const index_t wanted = length(sequence) + tokens.size(); wanted > limits_.capacity)
      throw Error("sequence " + std::to_string(sequence) + " would have " + std::to_string(wanted) +
                  " tokens; the capacity is " + std::to_string(limits_.capacity) +
                  ": shorten the prompt, ask for fewer new tokens, or raise the capacity");
  }
}

void Decoder::truncate(index_t sequence, index_t length) {
  require_held(length, tokens_.at(sequence).size());
  tokens_[sequence].resize(length);
  transformer_->truncate(sequence, length);
}

void Decoder::begin_with(index_t sequence, std::vector<Token> tokens) {
  if (length(sequence) > 0 || remembered(sequence) > tokens.size())
    throw std::logic_error("sequence " + std::to_string(sequence) + " has " + std::to_string(length(sequence)) +
                           " tokens and cannot begin anew");
  tokens_.at(sequence) = tokens;  // a copy: the room for a whole sequence stays
}

void Decoder::share(index_t from, index_t to, index_t length) {
  require_held(length, tokens_.at(from).size());
  const std::vector<Token> shared(tokens_[from].begin(), tokens_[from].begin() + static_cast<std::ptrdiff_t>(length));
  transformer_->share(from, to, std::min(length, transformer_->length(from)));
  tokens_.at(to) = shared;
}

}  // namespace kv
