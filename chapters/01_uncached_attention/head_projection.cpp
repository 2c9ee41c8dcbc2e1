#include "chapters/01_uncached_attention/head_projection.hpp"

#include "common/tensor/rms_norm.hpp"

namespace kv {
namespace {

void norm_every_head(Tensor<3>& x, const Tensor<1>& weight, float epsilon) {
  if (weight.size() == 0) return;
  const std::span<const float> weights(weight.data(), weight.size());
  for (index_t n = 0; n < x.shape(0); ++n)
    for (index_t h = 0; h < x.shape(1); ++h) rms_norm(row(x, n, h), weights, epsilon);
}

// [rotate]
/// Turns every head of token n to the token's position.
void rotate_every_head(Tensor<3>& x, const RopeTable& table) {
  for (index_t n = 0; n < x.shape(0); ++n)
    for (index_t h = 0; h < x.shape(1); ++h)
      rotate_half_split(row(x, n, h), row(table.cos, n), row(table.sin, n));
}
// [rotate]

}  // namespace

GroupedProjection::GroupedProjection(Weights weights, HeadSizes sizes, Rope rope)
    : weights_(std::move(weights)), sizes_(sizes), rope_(std::move(rope)) {
  const index_t H = sizes.query_heads, G = sizes.key_value_heads, D = sizes.key_width, M = weights_.query->inputs();
  require_sizes("query projection (H*D,M)", *weights_.query, H * D, M);
  require_sizes("key projection (G*D,M)", *weights_.key, G * D, M);
  require_sizes("value projection (G*W,M)", *weights_.value, G * sizes.value_width, M);
  if (weights_.output) require_sizes("output projection (M,H*W)", *weights_.output, M, H * sizes.value_width);
  if (weights_.query_norm.size() != 0) require_shape("query norm (D)", weights_.query_norm, {D});
  if (weights_.key_norm.size() != 0) require_shape("key norm (D)", weights_.key_norm, {D});
}

// [project]
Heads GroupedProjection::project(const Tensor<2>& x, std::span<const index_t> positions) const {
  require_position_for_every_row(positions, x);
  const RopeTable table = rope_.table(positions);
  const index_t H = sizes_.query_heads, G = sizes_.key_value_heads;
  return {turned((*weights_.query)(x), H, weights_.query_norm, table),
          turned((*weights_.key)(x), G, weights_.key_norm, table),
          split_heads((*weights_.value)(x), G)};
}

Tensor<3> GroupedProjection::turned(const Tensor<2>& projected, index_t heads,
                                    const Tensor<1>& norm, const RopeTable& table) const {
  Tensor<3> result = split_heads(projected, heads);
  norm_every_head(result, norm, weights_.norm_epsilon);
  rotate_every_head(result, table);
  return result;
}
// [project]

Tensor<3> GroupedProjection::queries(const Tensor<2>& x, std::span<const index_t> positions) const {
  require_position_for_every_row(positions, x);
  return turned((*weights_.query)(x), sizes_.query_heads, weights_.query_norm, rope_.table(positions));
}

Tensor<2> GroupedProjection::output(const Tensor<3>& mixed) const { return (*weights_.output)(join_heads(mixed)); }

void require_sizes(const char* label, const Linear& matrix, index_t outputs, index_t inputs) {
  const Shape<2> found{matrix.outputs(), matrix.inputs()}, expected{outputs, inputs};
  require_shape(label, found, expected);
}

void require_position_for_every_row(std::span<const index_t> positions, const Tensor<2>& x) {
  const Shape<1> found{positions.size()}, expected{x.shape(0)};
  require_shape("project: positions (N)", found, expected);
}

Tensor<3> split_heads(const Tensor<2>& x, index_t heads) {
  Tensor<3> result = empty<3>({x.shape(0), heads, x.shape(1) / heads});
  std::copy(x.begin(), x.end(), result.begin());
  return result;
}

Tensor<2> join_heads(const Tensor<3>& x) {
  Tensor<2> result = empty<2>({x.shape(0), x.shape(1) * x.shape(2)});
  std::copy(x.begin(), x.end(), result.begin());
  return result;
}

}  // namespace kv
