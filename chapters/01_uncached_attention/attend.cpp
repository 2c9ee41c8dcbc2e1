#include "chapters/01_uncached_attention/attend.hpp"

#include <cmath>

#include "common/dot.hpp"
#include "common/parallel.hpp"
#include "common/softmax.hpp"

namespace kv {
namespace {

void require_fit(const Tensor<3>& queries, const Tensor<3>& keys, const Tensor<3>& values, index_t S) {
  const index_t T = queries.shape(0), H = queries.shape(1), D = queries.shape(2);
  const index_t C = keys.shape(0), G = keys.shape(1), W = values.shape(2);
  require_shape("attend: keys (C,G,D)", keys, {C, G, D});
  require_shape("attend: values (C,G,W)", values, {C, G, W});
  if (G == 0 || H % G != 0)
    throw ShapeError("attend: " + std::to_string(H) + " query heads cannot share " + std::to_string(G) +
                     " key/value heads evenly");
  if (T > S || S > C)
    throw std::out_of_range("attend: needs T <= S <= C, found T = " + std::to_string(T) + ", S = " +
                            std::to_string(S) + ", C = " + std::to_string(C));
}

/// The query heads of token t that share key/value head g: they read each stored row once for all.
RowsView group_rows(const Tensor<3>& queries, index_t t, index_t g, index_t group) {
  const index_t D = queries.shape(2);
  return {&queries(t, g * group, 0), D, group, D};
}

}  // namespace

// [attend]
Tensor<3> attend(const Tensor<3>& queries, const Tensor<3>& keys, const Tensor<3>& values, index_t S) {
  require_fit(queries, keys, values, S);
  const index_t T = queries.shape(0), H = queries.shape(1), D = queries.shape(2);
  const index_t G = keys.shape(1), W = values.shape(2), group = H / G;
  const float scale = 1.0f / std::sqrt(static_cast<float>(D));
  Tensor<3> output = empty<3>({T, H, W});
  parallel_for(T * G, 1, [&](index_t first, index_t last) {
    std::vector<float> weights;
    for (index_t i = first; i < last; ++i) {
      const index_t t = i / G, g = i % G;
      const index_t visible = S - T + t + 1;  // the causal mask: itself and all before it
      weights.resize(group * visible);
      dot_rows(group_rows(queries, t, g, group), head_rows(keys, g, visible), weights.data(), visible);
      for (float& weight : weights) weight *= scale;
      for (index_t h = 0; h < group; ++h) softmax({&weights[h * visible], visible});
      weighted_sum({weights.data(), visible, group, visible}, head_rows(values, g, visible),
                   &output(t, g * group, 0), W);
    }
  });
  return output;
}
// [attend]

}  // namespace kv
