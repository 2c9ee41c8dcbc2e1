#include "common/model/loss.hpp"

#include <algorithm>
#include <cmath>

#include "common/files/error.hpp"

namespace kv {
namespace {

/// Tokens that are fed at a time: the logits of a whole window of a large vocabulary would be gigabytes.
constexpr index_t chunk = 128;

}  // namespace

double negative_log_likelihood(std::span<const float> logits, Token token) {
  if (token < 0 || static_cast<index_t>(token) >= logits.size())
    throw std::out_of_range("token " + std::to_string(token) + " has no logit among " + std::to_string(logits.size()));
  const double largest = *std::ranges::max_element(logits);  // or exp would overflow
  double sum = 0.0;
  for (const float logit : logits) sum += std::exp(logit - largest);
  const double loss = std::log(sum) + largest - logits[static_cast<index_t>(token)];
  if (!std::isfinite(loss)) throw Error("a logit is not finite: the model or its weights are broken");
  return loss;
}

double Loss::perplexity() const { return std::exp(mean()); }

Loss& Loss::operator+=(const Loss& other) {
  predictions += other.predictions;
  total += other.total;
  return *this;
}

// [windows]
Loss text_loss(Decoder& decoder, const std::vector<Token>& tokens, index_t window, const std::function<void(index_t)>& on_chunk) {
  if (tokens.size() < 2) throw Error("a loss needs at least two tokens: the text is too short");
  if (window < 2) throw std::invalid_argument("text_loss: a window has at least two tokens");
  Loss loss;
  for (index_t start = 0; start + 1 < tokens.size(); start += window - 1) {
    const index_t last = std::min(start + window, tokens.size()) - 1;  // predicted, but not fed
    decoder.truncate(0, 0);
    for (index_t first = start; first < last; first += chunk) {
      const index_t count = std::min(chunk, last - first);
      const auto begin = tokens.begin() + static_cast<std::ptrdiff_t>(first);
      const Tensor<2> logits = decoder.logits(0, {begin, begin + static_cast<std::ptrdiff_t>(count)});
      for (index_t t = 0; t < count; ++t) loss += {1, negative_log_likelihood(row(logits, t), tokens[first + t + 1])};
      if (on_chunk) on_chunk(loss.predictions);
    }
  }
  return loss;
}
// [windows]

}  // namespace kv
