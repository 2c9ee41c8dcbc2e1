#pragma once
/// @file
/// The decoder around the two seams: embedding, layers, final norm, output matrix.
#include <memory>
#include <vector>

#include "common/attention.hpp"
#include "common/feed_forward.hpp"
#include "common/linear.hpp"
#include "common/tokenizer.hpp"

namespace kv {

/// One layer: x += attention(norm(x)); x += feed_forward(norm(x)).
struct DecoderLayer {
  Tensor<1> attention_norm;  // (M)
  std::unique_ptr<Attention> attention;
  Tensor<1> feed_forward_norm;  // (M)
  std::shared_ptr<const FeedForward> feed_forward;
};

/// What a decoder is made of.
struct DecoderParts {
  MatrixView embedding;          // (V,M), in place in the checkpoint
  std::shared_ptr<const void> embedding_owner;  ///< keeps `embedding` alive
  std::vector<DecoderLayer> layers;
  Tensor<1> final_norm;                // (M)
  std::shared_ptr<const Linear> head;  // (V,M)
  float norm_epsilon;
  Limits limits;
};

/// New tokens of one sequence.
struct NewTokens {
  index_t sequence;
  std::vector<Token> tokens;
};

/// Runs token ids through the layers, for any number of sequences of different lengths.
class Decoder {
 public:
  explicit Decoder(DecoderParts parts);

  /// Appends the tokens to their sequences.
  /// @return logits (N,V), a row for each new token in the order given
  /// @throws Error for a token outside the vocabulary, a sequence that is named twice or not there, or one that would
  /// outgrow the capacity; every layer's state is unchanged then
  Tensor<2> logits(const std::vector<NewTokens>& batch);
  /// The same, but only for the last new token of each sequence: (B,V). What generation needs.
  Tensor<2> last_logits(const std::vector<NewTokens>& batch);
  /// For one sequence.
  Tensor<2> logits(index_t sequence, const std::vector<Token>& tokens) { return logits({{sequence, tokens}}); }

  /// Throws what logits would throw for this batch.
  void require_valid(const std::vector<NewTokens>& batch) const;

  /// The sequence so far.
  const std::vector<Token>& tokens(index_t sequence) const { return tokens_.at(sequence); }
  index_t length(index_t sequence) const { return tokens_.at(sequence).size(); }
  /// Tokens of the sequence that the layers remember: the rest is fed again with the next new token.
  index_t remembered(index_t sequence) const { return parts_.layers.front().attention->length(sequence); }
  /// Forgets the tail of a sequence. @throws std::out_of_range when it is shorter than that
  void truncate(index_t sequence, index_t length);

  index_t vocabulary() const { return parts_.head->outputs(); }
  const Limits& limits() const { return parts_.limits; }
  /// Bytes that all layers have allocated for what they remember.
  std::size_t state_bytes() const;

 private:
  Tensor<2> hidden_of_new(const std::vector<NewTokens>& batch);
  Tensor<2> run_layers(Tensor<2> x, const Batch& batch);
  Tensor<2> embed(const std::vector<NewTokens>& fed) const;

  DecoderParts parts_;
  std::vector<std::vector<Token>> tokens_;  // of every sequence
};

}  // namespace kv
