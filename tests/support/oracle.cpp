#include "tests/support/oracle.hpp"

#include <cmath>
#include <numbers>

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

Doubles<2> rms_norm_rows(Doubles<2> x, const Row& weight, double epsilon) {
  for (index_t n = 0; n < x.shape(0); ++n) put(x, n, 0, rms_norm(row_of(x, n, 0, x.shape(1)), weight, epsilon));
  return x;
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

Doubles<2> matrix(const Checkpoint& checkpoint, const std::string& name) {
  const std::vector<index_t> shape = checkpoint.entry(name).shape;
  const MatrixView view = checkpoint.matrix(name, shape.at(0), shape.at(1));
  Doubles<2> result = Doubles<2>::from_shape({shape[0], shape[1]});
  for (index_t i = 0; i < shape[0]; ++i)
    for (index_t j = 0; j < shape[1]; ++j) result(i, j) = view.at(i, j);
  return result;
}

Row vector(const Checkpoint& checkpoint, const std::string& name) {
  const Tensor<1> values = checkpoint.vector(name, checkpoint.entry(name).shape.at(0));
  return {values.begin(), values.end()};
}

/// Llama 3's bands as the published code writes them: by wavelength.
Row llama3(Row plain, const Json& scaling) {
  const double factor = scaling.at("factor").number(), low = scaling.at("low_freq_factor").number(),
               high = scaling.at("high_freq_factor").number(),
               original = scaling.at("original_max_position_embeddings").number();
  for (double& frequency : plain) {
    const double wavelength = 2.0 * std::numbers::pi / frequency;
    if (wavelength > original / low) {
      frequency /= factor;
    } else if (wavelength >= original / high) {
      const double smooth = (original / wavelength - low) / (high - low);
      frequency = (1.0 - smooth) * frequency / factor + smooth * frequency;
    }
  }
  return plain;
}

Row frequencies_of(const Json& config, index_t width) {
  const bool newer = config.has("rope_parameters");
  const double theta = newer ? config.at("rope_parameters").at("rope_theta").number() : config.at("rope_theta").number();
  const char* name = newer ? "rope_parameters" : "rope_scaling";
  const Row plain = frequencies(width, theta);
  if (!config.has(name) || config.at(name).at("rope_type").text() == "default") return plain;
  return llama3(plain, config.at(name));
}

AttentionWeights attention_weights(const Checkpoint& checkpoint, const std::string& layer) {
  const Json& config = checkpoint.config();
  const index_t H = config.at("num_attention_heads").size(), G = config.at("num_key_value_heads").size();
  const std::string prefix = layer + "self_attn.";
  const Doubles<2> query = matrix(checkpoint, prefix + "q_proj.weight");
  const index_t D = query.shape(0) / H;
  const bool norms = checkpoint.has(prefix + "q_norm.weight");
  return {.query = query,
          .key = matrix(checkpoint, prefix + "k_proj.weight"),
          .value = matrix(checkpoint, prefix + "v_proj.weight"),
          .output = matrix(checkpoint, prefix + "o_proj.weight"),
          .query_norm = norms ? vector(checkpoint, prefix + "q_norm.weight") : Row{},
          .key_norm = norms ? vector(checkpoint, prefix + "k_norm.weight") : Row{},
          .norm_epsilon = config.at("rms_norm_eps").number(),
          .sizes = {H, G, D, D},
          .frequencies = frequencies_of(config, D)};
}

Doubles<2> feed_forward(const Doubles<2>& x, const Checkpoint& checkpoint, const std::string& layer) {
  Doubles<2> gate = linear(x, matrix(checkpoint, layer + "mlp.gate_proj.weight"));
  const Doubles<2> up = linear(x, matrix(checkpoint, layer + "mlp.up_proj.weight"));
  for (index_t n = 0; n < gate.shape(0); ++n)
    for (index_t f = 0; f < gate.shape(1); ++f) gate(n, f) = swiglu(gate(n, f), up(n, f));
  return linear(gate, matrix(checkpoint, layer + "mlp.down_proj.weight"));
}

void add(Doubles<2>& x, const Doubles<2>& y) {
  for (index_t n = 0; n < x.shape(0); ++n)
    for (index_t m = 0; m < x.shape(1); ++m) x(n, m) += y(n, m);
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

Doubles<2> logits(const Checkpoint& checkpoint, const std::vector<Token>& tokens) {
  const Json& config = checkpoint.config();
  const double epsilon = config.at("rms_norm_eps").number();
  const Doubles<2> embedding = matrix(checkpoint, "model.embed_tokens.weight");
  Doubles<2> x = Doubles<2>::from_shape({tokens.size(), embedding.shape(1)});
  for (index_t t = 0; t < tokens.size(); ++t)
    put(x, t, 0, row_of(embedding, static_cast<index_t>(tokens[t]), 0, embedding.shape(1)));
  for (index_t layer = 0; layer < config.at("num_hidden_layers").size(); ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    add(x, attention_layer(rms_norm_rows(x, vector(checkpoint, prefix + "input_layernorm.weight"), epsilon),
                           attention_weights(checkpoint, prefix)));
    add(x, feed_forward(rms_norm_rows(x, vector(checkpoint, prefix + "post_attention_layernorm.weight"), epsilon),
                        checkpoint, prefix));
  }
  x = rms_norm_rows(x, vector(checkpoint, "model.norm.weight"), epsilon);
  return linear(x, checkpoint.has("lm_head.weight") ? matrix(checkpoint, "lm_head.weight") : embedding);
}

}  // namespace kv::test::oracle
