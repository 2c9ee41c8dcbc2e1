#pragma once
/// @file
/// The decoder around a transformer: it keeps the tokens, refuses what is wrong, and feeds what is not yet remembered.
#include <memory>
#include <vector>

#include "common/model/transformer.hpp"
#include "common/text/tokenizer.hpp"

namespace kv {

/// New tokens of one sequence.
struct NewTokens {
  index_t sequence;
  std::vector<Token> tokens;
};

/// Runs token ids through a transformer, for any number of sequences of different lengths.
class Decoder {
 public:
  Decoder(std::unique_ptr<Transformer> transformer, const Limits& limits);

  /// Appends the tokens to their sequences.
  /// @return logits (N,V), a row for each new token in the order given
  /// @throws Error for a token outside the vocabulary, a sequence that is named twice or not there, or one that would
  /// outgrow the capacity; the state is unchanged then
  Tensor<2> logits(const std::vector<NewTokens>& batch);
  /// The same, but only for the last new token of each sequence: (B,V). What generation needs.
  Tensor<2> last_logits(const std::vector<NewTokens>& batch);
  /// And of these the most likely tokens alone, what a greedy Sampler draws.
  std::vector<Token> most_likely(const std::vector<NewTokens>& batch);
  /// For one sequence.
  Tensor<2> logits(index_t sequence, const std::vector<Token>& tokens) { return logits({{sequence, tokens}}); }

  /// Throws what logits would throw for this batch.
  void require_valid(const std::vector<NewTokens>& batch) const;

  /// The sequence so far.
  const std::vector<Token>& tokens(index_t sequence) const { return tokens_.at(sequence); }
  index_t length(index_t sequence) const { return tokens_.at(sequence).size(); }
  /// Tokens of the sequence that the transformer remembers: the rest is fed again with the next new token.
  index_t remembered(index_t sequence) const { return transformer_->length(sequence); }
  /// Forgets the tail of a sequence. @throws std::out_of_range when it is shorter than that
  void truncate(index_t sequence, index_t length);
  /// An empty sequence begins with these tokens, of which the transformer may remember the first: somebody gave it what another
  /// sequence has left behind. What it does not remember is fed with the next new token.
  /// @throws std::logic_error when the sequence has tokens, or when more than these are remembered
  void begin_with(index_t sequence, std::vector<Token> tokens);
  /// Makes sequence `to` equal to the first `length` tokens of `from`; what the transformer cannot share is fed again.
  /// @throws std::out_of_range when `from` is shorter than that
  void share(index_t from, index_t to, index_t length);
  /// The tokens so far were a prompt: for layers that choose at its end what they keep.
  void prompt_ends(index_t sequence) { transformer_->prompt_ends(sequence); }

  index_t vocabulary() const { return transformer_->vocabulary(); }
  const Limits& limits() const { return limits_; }
  StateBytes state_bytes() const { return transformer_->state_bytes(); }

 private:
  /// What one call feeds to the transformer, and which of these rows somebody may want. Kept, so that a decode step
  /// allocates nothing for it.
  struct Step {
    std::vector<Token> fed;
    Batch segments;
    std::vector<index_t> rows_of_new_tokens, last_rows, lengths_before;
    void clear();
  };
  template <class Result>
  using Ask = Result (Transformer::*)(std::span<const Token> tokens, const Batch& batch, std::span<const index_t> wanted);
  template <class Result>
  Result feed(const std::vector<NewTokens>& batch, std::vector<index_t> Step::*wanted, Ask<Result> ask);
  void append(const NewTokens& part);

  std::unique_ptr<Transformer> transformer_;
  Limits limits_;
  std::vector<std::vector<Token>> tokens_;  // of every sequence
  Step step_;                               // the latest
};

}  // namespace kv
