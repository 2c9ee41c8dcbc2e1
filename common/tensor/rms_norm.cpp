#include "common/tensor/rms_norm.hpp"

#include <algorithm>
#include <cmath>

#include "common/tensor/attention_sums.hpp"
#include "common/tensor/parallel.hpp"

namespace kv {

// [row]
void rms_norm(std::span<float> x, std::span<const float> weight, float epsilon) {
  require_shape("rms_norm: weight (M)", std::array{index_t{weight.size()}},
                std::array{index_t{x.size()}});
  if (x.empty()) return;
  float squares;
  dot_rows(x, {x.data(), x.size(), 1, x.size()}, {&squares, 1});
  const float factor = 1.0f / std::sqrt(squares / static_cast<float>(x.size()) + epsilon);
  for (index_t i = 0; i < x.size(); ++i) x[i] = x[i] * factor * weight[i];
}
// [row]

Tensor<2> rms_norm(const Tensor<2>& x, const Tensor<1>& weight, float epsilon) {
  const index_t N = x.shape(0), M = x.shape(1);
  require_shape("rms_norm: weight (M)", weight, {M});
  Tensor<2> out = empty<2>({N, M});
  const auto normalise = [&](index_t first, index_t last) {
    for (index_t n = first; n < last; ++n) {
      std::ranges::copy(row(x, n), row(out, n).begin());
      rms_norm(row(out, n), {weight.data(), M}, epsilon);
    }
  };
  parallel_for(N, 16384 / std::max<index_t>(M, 1) + 1, normalise);
  return out;
}

}  // namespace kv
