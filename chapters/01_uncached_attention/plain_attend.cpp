#include "chapters/01_uncached_attention/plain_attend.hpp"

#include <cmath>
#include <vector>

#include "common/tensor/softmax.hpp"

namespace kv {

// [attend]
Tensor<3> plain_attend(const Tensor<3>& queries, const Tensor<3>& keys, const Tensor<3>& values,
                       index_t S) {
  const index_t T = queries.shape(0), H = queries.shape(1), D = queries.shape(2);
  const index_t G = keys.shape(1), W = values.shape(2);
  Tensor<3> output = zeros<3>({T, H, W});
  for (index_t t = 0; t < T; ++t)
    for (index_t h = 0; h < H; ++h) {
      const index_t g = h * G / H, visible = S - T + t + 1;  // itself and all before it
      std::vector<float> weights(visible);
      for (index_t s = 0; s < visible; ++s) {
        for (index_t d = 0; d < D; ++d) weights[s] += queries(t, h, d) * keys(s, g, d);
        weights[s] /= std::sqrt(static_cast<float>(D));
      }
      softmax(weights);
      for (index_t s = 0; s < visible; ++s)
        for (index_t w = 0; w < W; ++w) output(t, h, w) += weights[s] * values(s, g, w);
    }
  return output;
}
// [attend]

}  // namespace kv
