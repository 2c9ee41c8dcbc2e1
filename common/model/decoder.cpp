#include "common/model/decoder.hpp"

#include <set>

#include "common/files/error.hpp"

namespace kv {

Decoder::Decoder(std::unique_ptr<Transformer> transformer, const Limits& limits)
    : transformer_(std::move(transformer)), limits_(limits), tokens_(limits.sequences) {}

Tensor<2> Decoder::logits(const std::vector<NewTokens>& batch) {
  return feed(batch, [](const NewTokens& part) -> index_t { return part.tokens.size(); });
}

Tensor<2> Decoder::last_logits(const std::vector<NewTokens>& batch) {
  return feed(batch, [](const NewTokens&) -> index_t { return 1; });
}

Tensor<2> Decoder::feed(const std::vector<NewTokens>& batch, index_t (*count_wanted)(const NewTokens& part)) {
  require_valid(batch);
  std::vector<index_t> lengths_before;
  for (const auto& [sequence, tokens] : batch) {
    lengths_before.push_back(length(sequence));
    tokens_[sequence].insert(tokens_[sequence].end(), tokens.begin(), tokens.end());
  }
  try {
    // [feed]
    // The transformer is fed what it does not remember: the new tokens, or, uncached, the whole sequence.
    std::vector<Token> fed;
    Batch segments;
    std::vector<index_t> wanted;
    for (const NewTokens& part : batch) {
      const std::vector<Token>& all = tokens_[part.sequence];
      const index_t known = remembered(part.sequence);
      segments.push_back({part.sequence, fed.size(), all.size() - known, known, std::span(all).subspan(known)});
      fed.insert(fed.end(), all.begin() + static_cast<std::ptrdiff_t>(known), all.end());
      for (index_t i = fed.size() - count_wanted(part); i < fed.size(); ++i) wanted.push_back(i);
    }
    // [feed]
    return transformer_->logits(fed, segments, wanted);
  } catch (...) {
    for (index_t b = 0; b < batch.size(); ++b) truncate(batch[b].sequence, lengths_before[b]);
    throw;
  }
}

void Decoder::require_valid(const std::vector<NewTokens>& batch) const {
  std::set<index_t> seen;
  for (const auto& [sequence, tokens] : batch) {
    if (sequence >= tokens_.size())
      throw Error("sequence " + std::to_string(sequence) + " does not exist: the decoder was made for " +
                  std::to_string(tokens_.size()));
    if (!seen.insert(sequence).second)
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

void Decoder::share(index_t from, index_t to, index_t length) {
  require_held(length, tokens_.at(from).size());
  const std::vector<Token> shared(tokens_[from].begin(), tokens_[from].begin() + static_cast<std::ptrdiff_t>(length));
  transformer_->share(from, to, std::min(length, transformer_->length(from)));
  tokens_.at(to) = shared;
}

}  // namespace kv
