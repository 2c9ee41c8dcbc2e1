#pragma once
/// @file
/// The outer seam of the book: token ids in, logits out. How the stack between them is made, layer by layer or as one
/// program of a device, is its own affair.
#include <span>
#include <vector>

#include "common/model/attention.hpp"
#include "common/text/token.hpp"

namespace kv {

/// A whole model that remembers any number of sequences.
struct Transformer {
  /// Appends the tokens to their sequences.
  /// @param tokens (N), in the vocabulary
  /// @param batch segments that cover the N tokens, no sequence twice, each at position length(sequence)
  /// @param wanted rows of the N whose logits are asked for  @return (wanted.size(), V), in the order asked for
  /// @throws Error when a sequence would outgrow the capacity. After any error truncate() brings the old state back.
  virtual Tensor<2> logits(std::span<const Token> tokens, const Batch& batch, std::span<const index_t> wanted) = 0;

  /// The same, and of each wanted row the token that a greedy Sampler draws. A device need not send its logits for that.
  /// @throws Error as logits() and Sampler::next
  virtual std::vector<Token> most_likely(std::span<const Token> tokens, const Batch& batch, std::span<const index_t> wanted);

  /// Tokens of the sequence that need not be fed again.
  virtual index_t length(index_t sequence) const = 0;

  /// Forgets all but the first `length` tokens, if there are more.
  /// @return how many need not be fed again for the same bits, as Attention::truncate
  virtual index_t truncate(index_t sequence, index_t length) = 0;

  /// As Attention::share.
  virtual index_t share(index_t from, index_t to, index_t length) = 0;

  /// As Attention::prompt_ends.
  virtual void prompt_ends(index_t sequence) = 0;

  virtual index_t vocabulary() const = 0;

  virtual StateBytes state_bytes() const = 0;

  virtual ~Transformer() = default;
};

}  // namespace kv
