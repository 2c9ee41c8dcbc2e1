#include "tests/support/latent_oracle.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

namespace kv::test::latent {
namespace {

/// y = W x, row by row.
template <class Real>
Rows<Real> times(const Rows<Real>& weight, const Rows<Real>& x) {
  Rows<Real> y(x.count, weight.count);
  for (index_t n = 0; n < x.count; ++n)
    for (index_t o = 0; o < weight.count; ++o) {
      Real sum = 0;
      for (index_t i = 0; i < weight.width; ++i) sum += weight(o, i) * x(n, i);
      y(n, o) = sum;
    }
  return y;
}

/// The first `width` numbers of a row over their root mean square.
template <class Real>
void norm(Rows<Real>& x, index_t n, const Rows<Real>& weight) {
  Real squares = 0;
  for (index_t i = 0; i < weight.width; ++i) squares += x(n, i) * x(n, i);
  const Real root = std::sqrt(squares / static_cast<Real>(weight.width) + static_cast<Real>(1e-6));
  for (index_t i = 0; i < weight.width; ++i) x(n, i) = x(n, i) / root * weight(0, i);
}

template <class Real>
Rows<Real> widened(const Tensor<2>& x) {
  Rows<Real> rows(x.shape(0), x.shape(1));
  std::copy(x.begin(), x.end(), rows.values.begin());
  return rows;
}

double m(double factor, double x) { return 0.1 * x * std::log(factor) + 1.0; }

double number(const Json& object, std::string_view key, double otherwise) {
  return object.has(key) ? object.at(key).number() : otherwise;
}

template <class A, class B>
double largest_difference(const A& a, const B& b) {
  double difference = 0.0, largest = 0.0;
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  for (index_t i = 0; i < b.size(); ++i) {
    const double x = a.data()[i], y = b.data()[i];
    if (std::isnan(x) || std::isnan(y)) return std::numeric_limits<double>::infinity();
    difference = std::max(difference, std::abs(x - y));
    largest = std::max(largest, std::abs(y));
  }
  return difference / largest;
}

}  // namespace

template <class Real>
LatentOracle<Real>::LatentOracle(const Checkpoint& checkpoint, index_t layer, Mistake mistake) : mistake_(mistake) {
  const Json& config = checkpoint.config();
  model_ = config.at("hidden_size").size();
  heads_ = config.at("num_attention_heads").size();
  rank_ = config.at("kv_lora_rank").size();
  rope_ = config.at("qk_rope_head_dim").size();
  plain_ = config.at("qk_nope_head_dim").size();
  value_ = config.at("v_head_dim").size();
  query_rank_ = config.has("q_lora_rank") ? config.at("q_lora_rank").size() : 0;

  const bool new_spelling = config.has("rope_parameters");
  theta_ = (new_spelling ? config.at("rope_parameters") : config).at("rope_theta").number();
  has_yarn_ = false;
  yarn_ = {};
  if (new_spelling || config.has("rope_scaling")) {
    const Json scaling = config.at(new_spelling ? "rope_parameters" : "rope_scaling");
    has_yarn_ = scaling.has("factor");
    if (has_yarn_)
      yarn_ = {scaling.at("factor").number(),
               scaling.at("original_max_position_embeddings").number(),
               number(scaling, "beta_fast", 32.0),
               number(scaling, "beta_slow", 1.0),
               scaling.at("mscale").number(),
               scaling.at("mscale_all_dim").number()};
  }

  const std::string prefix = "model.layers." + std::to_string(layer) + ".self_attn.";
  const index_t query_width = heads_ * (plain_ + rope_);
  if (query_rank_ != 0) {
    query_down_ = weight(checkpoint, prefix + "q_a_proj.weight", query_rank_, model_);
    query_norm_ = norm_weight(checkpoint, prefix + "q_a_layernorm.weight", query_rank_);
    query_up_ = weight(checkpoint, prefix + "q_b_proj.weight", query_width, query_rank_);
  } else {
    query_up_ = weight(checkpoint, prefix + "q_proj.weight", query_width, model_);
  }
  latent_down_ = weight(checkpoint, prefix + "kv_a_proj_with_mqa.weight", rank_ + rope_, model_);
  latent_norm_ = norm_weight(checkpoint, prefix + "kv_a_layernorm.weight", rank_);
  up_ = weight(checkpoint, prefix + "kv_b_proj.weight", heads_ * (plain_ + value_), rank_);
  output_ = weight(checkpoint, prefix + "o_proj.weight", model_, heads_ * value_);
}

template <class Real>
Rows<Real> LatentOracle<Real>::weight(const Checkpoint& checkpoint, const std::string& name, index_t rows,
                                      index_t columns) const {
  const MatrixView matrix = checkpoint.matrix(name, rows, columns);
  Rows<Real> wide(rows, columns);
  for (index_t i = 0; i < rows; ++i)
    for (index_t j = 0; j < columns; ++j) wide(i, j) = matrix.at(i, j);
  return wide;
}

template <class Real>
Rows<Real> LatentOracle<Real>::norm_weight(const Checkpoint& checkpoint, const std::string& name, index_t width) const {
  const Tensor<1> vector = checkpoint.vector(name, width);
  Rows<Real> wide(1, width);
  std::copy(vector.begin(), vector.end(), wide.values.begin());
  return wide;
}

template <class Real>
bool LatentOracle<Real>::stretches(index_t tokens) const {
  if (mistake_ == Mistake::yarn_by_capacity && static_cast<double>(tokens) <= yarn_.original_length) return false;
  return has_yarn_;
}

template <class Real>
std::vector<double> LatentOracle<Real>::frequencies(index_t tokens) const {
  const double width = static_cast<double>(rope_);
  const auto corrected = [&](double turns) {
    return width * std::log(yarn_.original_length / (2.0 * std::numbers::pi * turns)) / (2.0 * std::log(theta_));
  };
  const double low = std::max(std::floor(corrected(yarn_.beta_fast)), 0.0);
  const double high = std::min(std::ceil(corrected(yarn_.beta_slow)), width - 1.0);
  std::vector<double> result;
  for (index_t i = 0; i < rope_ / 2; ++i) {
    double frequency = 1.0 / std::pow(theta_, 2.0 * static_cast<double>(i) / width);
    if (stretches(tokens)) {
      const double ramp = std::min(1.0, std::max(0.0, (static_cast<double>(i) - low) / (high - low)));
      frequency = frequency * (1.0 - ramp) + frequency / yarn_.factor * ramp;
    }
    result.push_back(frequency);
  }
  return result;
}

template <class Real>
void LatentOracle<Real>::rotate(Real* part, index_t position, index_t tokens) const {
  const std::vector<double> turned = frequencies(tokens);
  double magnitude = 1.0;
  if (stretches(tokens)) {
    magnitude = m(yarn_.factor, yarn_.mscale);
    if (mistake_ != Mistake::magnitude_without_quotient) magnitude /= m(yarn_.factor, yarn_.mscale_all_dim);
  }
  for (index_t i = 0; i < rope_ / 2; ++i) {
    const double angle = static_cast<float>(position) * static_cast<float>(turned[i]);  // an f32 product, by definition
    const Real cos = static_cast<Real>(magnitude * std::cos(angle)), sin = static_cast<Real>(magnitude * std::sin(angle));
    const bool halves = mistake_ == Mistake::half_split_rope;
    Real& first = part[halves ? i : 2 * i];
    Real& second = part[halves ? i + rope_ / 2 : 2 * i + 1];
    const Real a = first, b = second;
    first = a * cos - b * sin;
    second = a * sin + b * cos;
  }
}

template <class Real>
Rows<Real> LatentOracle<Real>::latents(const Tensor<2>& x) const {
  Rows<Real> latents = times(latent_down_, widened<Real>(x));
  for (index_t n = 0; n < latents.count; ++n) {
    if (mistake_ != Mistake::cached_before_norm) norm(latents, n, latent_norm_);
    if (mistake_ != Mistake::cached_before_rotation) rotate(&latents(n, rank_), n, latents.count);
  }
  return latents;
}

template <class Real>
Rows<Real> LatentOracle<Real>::queries(const Tensor<2>& x) const {
  Rows<Real> inputs = widened<Real>(x);
  if (query_rank_ != 0) {
    inputs = times(query_down_, inputs);
    for (index_t n = 0; n < inputs.count; ++n) norm(inputs, n, query_norm_);
  }
  Rows<Real> queries = times(query_up_, inputs);
  for (index_t n = 0; n < queries.count; ++n)
    for (index_t h = 0; h < heads_; ++h) rotate(&queries(n, h * (plain_ + rope_) + plain_), n, queries.count);
  return queries;
}

template <class Real>
Real LatentOracle<Real>::scale(index_t tokens) const {
  const index_t width = mistake_ == Mistake::scale_of_latent_row ? rank_ + rope_ : plain_ + rope_;
  double scale = 1.0 / std::sqrt(static_cast<double>(width));
  if (stretches(tokens) && mistake_ != Mistake::no_softmax_factor)
    scale *= m(yarn_.factor, yarn_.mscale_all_dim) * m(yarn_.factor, yarn_.mscale_all_dim);
  return static_cast<Real>(scale);
}

template <class Real>
Real LatentOracle<Real>::up(index_t row, const Rows<Real>& latents, index_t s) const {
  Real sum = 0;
  for (index_t r = 0; r < rank_; ++r) sum += up_(row, r) * latents(s, r);
  return sum;
}

/// softmax over s of score(t,h,s), then the sum of value(h,s,i) with these weights: (N, H * width).
template <class Real>
template <class Score, class Value>
Rows<Real> LatentOracle<Real>::attend(index_t tokens, Score score, index_t width, Value value) const {
  Rows<Real> mixed(tokens, heads_ * width);
  const index_t ahead = mistake_ == Mistake::sees_one_ahead ? 1 : 0;
  for (index_t t = 0; t < tokens; ++t)
    for (index_t h = 0; h < heads_; ++h) {
      const index_t visible = std::min(tokens, t + 1 + ahead);
      std::vector<Real> weights(visible);
      Real total = 0;
      for (index_t s = 0; s < visible; ++s) weights[s] = score(t, h, s) * scale(tokens);
      const Real largest = *std::max_element(weights.begin(), weights.end());
      for (Real& each : weights) total += each = std::exp(each - largest);
      for (index_t s = 0; s < visible; ++s)
        for (index_t i = 0; i < width; ++i) mixed(t, h * width + i) += weights[s] / total * value(h, s, i);
    }
  return mixed;
}

template <class Real>
Rows<Real> LatentOracle<Real>::output(const Rows<Real>& mixed) const {
  return times(output_, mixed);
}

template <class Real>
Rows<Real> LatentOracle<Real>::expanded(const Tensor<2>& x) const {
  const index_t D = plain_ + rope_, both = plain_ + value_;
  const Rows<Real> c = latents(x), q = queries(x);
  Rows<Real> k(c.count, heads_ * D), v(c.count, heads_ * value_);
  for (index_t s = 0; s < c.count; ++s)
    for (index_t h = 0; h < heads_; ++h) {
      for (index_t i = 0; i < plain_; ++i) k(s, h * D + i) = up(h * both + i, c, s);
      for (index_t i = 0; i < rope_; ++i) k(s, h * D + plain_ + i) = c(s, rank_ + i);
      for (index_t i = 0; i < value_; ++i) v(s, h * value_ + i) = up(h * both + plain_ + i, c, s);
    }
  const auto score = [&](index_t t, index_t h, index_t s) {
    Real sum = 0;
    for (index_t i = 0; i < D; ++i) sum += q(t, h * D + i) * k(s, h * D + i);
    return sum;
  };
  return output(attend(c.count, score, value_, [&](index_t h, index_t s, index_t i) { return v(s, h * value_ + i); }));
}

template <class Real>
Rows<Real> LatentOracle<Real>::decompressed(const Tensor<2>& x) const {
  const index_t D = plain_ + rope_, both = plain_ + value_;
  const Rows<Real> c = latents(x), q = queries(x);
  const auto score = [&](index_t t, index_t h, index_t s) {
    Real sum = 0;
    for (index_t i = 0; i < plain_; ++i) sum += q(t, h * D + i) * up(h * both + i, c, s);
    for (index_t i = 0; i < rope_; ++i) sum += q(t, h * D + plain_ + i) * c(s, rank_ + i);
    return sum;
  };
  const auto value = [&](index_t h, index_t s, index_t i) { return up(h * both + plain_ + i, c, s); };
  return output(attend(c.count, score, value_, value));
}

template <class Real>
Rows<Real> LatentOracle<Real>::absorbed(const Tensor<2>& x) const {
  const index_t D = plain_ + rope_, both = plain_ + value_, width = rank_ + rope_;
  const Rows<Real> c = latents(x), q = queries(x);
  Rows<Real> moved(c.count, heads_ * width);
  for (index_t t = 0; t < c.count; ++t)
    for (index_t h = 0; h < heads_; ++h) {
      for (index_t r = 0; r < rank_; ++r)
        for (index_t i = 0; i < plain_; ++i) moved(t, h * width + r) += up_(h * both + i, r) * q(t, h * D + i);
      for (index_t i = 0; i < rope_; ++i) moved(t, h * width + rank_ + i) = q(t, h * D + plain_ + i);
    }
  const auto score = [&](index_t t, index_t h, index_t s) {
    Real sum = 0;
    for (index_t i = 0; i < width; ++i) sum += moved(t, h * width + i) * c(s, i);
    return sum;
  };
  const Rows<Real> mixed = attend(c.count, score, rank_, [&](index_t, index_t s, index_t r) { return c(s, r); });
  Rows<Real> values(c.count, heads_ * value_);
  for (index_t t = 0; t < c.count; ++t)
    for (index_t h = 0; h < heads_; ++h)
      for (index_t i = 0; i < value_; ++i)
        for (index_t r = 0; r < rank_; ++r)
          values(t, h * value_ + i) += up_(h * both + plain_ + i, r) * mixed(t, h * rank_ + r);
  return output(values);
}

template class LatentOracle<float>;
template class LatentOracle<double>;

double relative_difference(const Tensor<2>& a, const Tensor<2>& b) { return largest_difference(a, b); }
template <class A, class B>
double relative_difference(const Rows<A>& a, const Rows<B>& b) {
  return largest_difference(a.values, b.values);
}
template <class B>
double relative_difference(const Tensor<2>& a, const Rows<B>& b) {
  return largest_difference(a, b.values);
}
template double relative_difference(const Rows<float>&, const Rows<float>&);
template double relative_difference(const Rows<double>&, const Rows<double>&);
template double relative_difference(const Tensor<2>&, const Rows<double>&);

}  // namespace kv::test::latent
