#pragma once
/// @file
/// How well a model predicts a text: the mean negative log-likelihood of its tokens, computed in double from the logits.
#include <functional>
#include <span>
#include <vector>

#include "common/model/decoder.hpp"

namespace kv {

/// Nats for one token: \f$ \log \sum_v e^{z_v} - z_{token} \f$.
/// @param logits (V)  @throws Error when one is not finite, std::out_of_range for a token that has none
double negative_log_likelihood(std::span<const float> logits, Token token);

/// Loss of a text, or of several. Every token but the first of each text is predicted once.
struct Loss {
  index_t predictions = 0;
  double total = 0.0;  ///< nats

  double mean() const { return total / static_cast<double>(predictions); }
  /// \f$ e^{\text{mean}} \f$
  double perplexity() const;
  Loss& operator+=(const Loss& other);
};

/// Runs a text through sequence 0 of a decoder, which forgets it first. A text longer than the window is cut into windows of
/// that many tokens, each of which begins with the last token of the one before and knows nothing of what came earlier.
/// @param window at least 2, at most the decoder's capacity + 1: a last token is predicted, but not fed
/// @param on_chunk called now and then with the number of tokens predicted so far
/// @throws Error when there are fewer than two tokens
Loss text_loss(Decoder& decoder, const std::vector<Token>& tokens, index_t window, const std::function<void(index_t)>& on_chunk = {});

}  // namespace kv
