#include "tests/support/oracle.hpp"

#include <cmath>

namespace kv::test::oracle {
namespace {

using Row = std::vector<double>;

Row row_of(const Doubles<2>& x, index_t n, index_t first, index_t count) {
  Row row(count);
  for (index_t i = 0; i < count; ++i) row[i] = x(n, first + i);
  return row;
}

void put(Doubles<2>& x, index_t n, index_t first, const Row& row) {
  for (index_t i = 0; i < row.size(); ++i) x(n, first + i) = row[i];
}

/// (T, count*width): every head normed, then turned to its token's position.
Doubles<2> norm_and_rotate(Doubles<2> x, index_t count, index_t width, const Row& norm, const AttentionWeights& weights) {
  for (index_t t = 0; t < x.shape(0); ++t)
    for (index_t h = 0; h < count; ++h) {
      Row head = row_of(x, t, h * width, width);
      if (!norm.empty()) head = rms_norm(head, norm, weights.norm_epsilon);
      put(x, t, h * width, rotate(head, weights.frequencies, static_cast<double>(t), Pairs::half_split));
    }
  return x;
}

Doubles<3> heads_of(const Doubles<2>& x, index_t count) {
  const index_t width = x.shape(1) / count;
  Doubles<3> heads = Doubles<3>::from_shape({x.shape(0), count, width});
  for (index_t t = 0; t < x.shape(0); ++t)
    for (index_t h = 0; h < count; ++h)
      for (index_t d = 0; d < width; ++d) heads(t, h, d) = x(t, h * width + d);
  return heads;
}

}  // namespace

Doubles<3> attention(const Doubles<3>& queries, const Doubles<3>& keys, const Doubles<3>& values, index_t S) {
  const index_t T = queries.shape(0), H = queries.shape(1), D = queries.shape(2), W = values.shape(2);
  const index_t sharing = H / keys.shape(1);  // query heads on one key head
  Doubles<3> output = Doubles<3>::from_shape({T, H, W});
  for (index_t t = 0; t < T; ++t)
    for (index_t h = 0; h < H; ++h) {
      const index_t position = S - T + t;
      Row weights;
      for (index_t s = 0; s <= position; ++s) {
        double product = 0.0;
        for (index_t d = 0; d < D; ++d) product += queries(t, h, d) * keys(s, h / sharing, d);
        weights.push_back(product / std::sqrt(static_cast<double>(D)));
      }
      double top = weights[0], sum = 0.0;
      for (const double weight : weights) top = std::max(top, weight);
      for (double& weight : weights) sum += weight = std::exp(weight - top);
      for (index_t w = 0; w < W; ++w) {
        double mixed = 0.0;
        for (index_t s = 0; s <= position; ++s) mixed += weights[s] / sum * values(s, h / sharing, w);
        output(t, h, w) = mixed;
      }
    }
  return output;
}

Row rotate(const Row& head, const Row& frequencies, double position, Pairs pairs) {
  Row result(head.size());
  const index_t half = head.size() / 2;
  for (index_t i = 0; i < half; ++i) {
    const index_t real = pairs == Pairs::half_split ? i : 2 * i, imaginary = pairs == Pairs::half_split ? i + half : 2 * i + 1;
    const std::complex<double> turned =
        std::complex<double>(head[real], head[imaginary]) * std::polar(1.0, position * frequencies[i]);
    result[real] = turned.real();
    result[imaginary] = turned.imag();
  }
  return result;
}

Row frequencies(index_t width, double theta) {
  Row result;
  for (index_t i = 0; i < width / 2; ++i)
    result.push_back(1.0 / std::pow(theta, static_cast<double>(2 * i) / static_cast<double>(width)));
  return result;
}

Row rms_norm(const Row& x, const Row& weight, double epsilon) {
  double squares = 0.0;
  for (const double value : x) squares += value * value;
  Row result;
  for (index_t i = 0; i < x.size(); ++i)
    result.push_back(x[i] / std::sqrt(squares / static_cast<double>(x.size()) + epsilon) * weight[i]);
  return result;
}

Doubles<2> rms_norm(Doubles<2> x, const Row& weight, double epsilon) {
  for (index_t n = 0; n < x.shape(0); ++n) put(x, n, 0, rms_norm(row_of(x, n, 0, x.shape(1)), weight, epsilon));
  return x;
}

double swiglu(double g, double u) { return g / (1.0 + std::exp(-g)) * u; }

Doubles<2> linear(const Doubles<2>& x, const Doubles<2>& weight) {
  Doubles<2> y = Doubles<2>::from_shape({x.shape(0), weight.shape(0)});
  for (index_t n = 0; n < y.shape(0); ++n)
    for (index_t o = 0; o < y.shape(1); ++o) {
      double sum = 0.0;
      for (index_t i = 0; i < x.shape(1); ++i) sum += x(n, i) * weight(o, i);
      y(n, o) = sum;
    }
  return y;
}

Doubles<2> attention_layer(const Doubles<2>& x, const AttentionWeights& weights) {
  const auto [H, G, D, W, window] = weights.sizes;
  const Doubles<3> queries =
      heads_of(norm_and_rotate(linear(x, weights.query), H, D, weights.query_norm, weights), H);
  const Doubles<3> keys = heads_of(norm_and_rotate(linear(x, weights.key), G, D, weights.key_norm, weights), G);
  const Doubles<3> values = heads_of(linear(x, weights.value), G);
  const Doubles<3> mixed = attention(queries, keys, values, x.shape(0));
  Doubles<2> joined = Doubles<2>::from_shape({x.shape(0), H * W});
  for (index_t t = 0; t < x.shape(0); ++t)
    for (index_t h = 0; h < H; ++h)
      for (index_t w = 0; w < W; ++w) joined(t, h * W + w) = mixed(t, h, w);
  return linear(joined, weights.output);
}

}  // namespace kv::test::oracle
