#include "chapters/studies/loss_after_prompt.hpp"

#include "common/model/loss.hpp"

namespace kv {

LossAndBytes loss_after_prompt(Decoder& decoder, const std::vector<Token>& text, index_t passages) {
  Loss sum;
  std::size_t bytes = 0;
  for (index_t i = 0; i < passages; ++i) {
    const auto passage = text.begin() + static_cast<std::ptrdiff_t>(i * passage_tokens), rest = passage + passage_prompt_tokens;
    decoder.truncate(0, 0);
    decoder.last_logits({{0, {passage, rest}}});
    decoder.prompt_ends(0);
    const Tensor<2> logits = decoder.logits(0, {rest, passage + passage_tokens});
    for (index_t t = 0; t < logits.shape(0); ++t)
      sum += {1, negative_log_likelihood(row(logits, t), rest[static_cast<std::ptrdiff_t>(t) + 1])};
    bytes += decoder.state_bytes().used;
  }
  return {sum.mean(), bytes / passages};
}

}  // namespace kv
