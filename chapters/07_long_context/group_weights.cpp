#include "chapters/07_long_context/group_weights.hpp"

#include "chapters/01_uncached_attention/attention_weights.hpp"

namespace kv {
namespace {

template <class Join>
Tensor<2> joined_weights(const Attended& token, Join join) {
  const Tensor<3> weights = attention_weights(token.query, token.rows, {.position = token.position}, token.scale);  // (1,H,S)
  const index_t H = weights.shape(1), G = token.rows.heads(), S = weights.shape(2);
  Tensor<2> result = zeros<2>({G, S});
  for (index_t h = 0; h < H; ++h)
    for (index_t s = 0; s < S; ++s) result(h * G / H, s) = join(result(h * G / H, s), weights(0, h, s));
  return result;
}

}  // namespace

Tensor<2> added_weights(const Attended& token) {
  return joined_weights(token, [](float a, float b) { return a + b; });
}

Tensor<2> largest_weights(const Attended& token) {
  return joined_weights(token, [](float a, float b) { return std::max(a, b); });
}

}  // namespace kv
