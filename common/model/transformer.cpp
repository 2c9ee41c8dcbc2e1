#include "common/model/transformer.hpp"

#include "common/model/sampler.hpp"

namespace kv {

std::vector<Token> Transformer::most_likely(std::span<const Token> tokens, const Batch& batch, std::span<const index_t> wanted) {
  const Tensor<2> all = logits(tokens, batch, wanted);
  Sampler greedy({});
  std::vector<Token> result;
  for (index_t w = 0; w < wanted.size(); ++w) result.push_back(greedy.next(row(all, w)));
  return result;
}

}  // namespace kv
