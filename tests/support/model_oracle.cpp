#include "tests/support/model_oracle.hpp"

#include <numbers>

#include "tests/support/oracle.hpp"

namespace kv::test::oracle {
namespace {

using Row = std::vector<double>;

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

Doubles<2> logits(const Checkpoint& checkpoint, const std::vector<Token>& tokens) {
  const Json& config = checkpoint.config();
  const double epsilon = config.at("rms_norm_eps").number();
  const Doubles<2> embedding = matrix(checkpoint, "model.embed_tokens.weight");
  Doubles<2> x = Doubles<2>::from_shape({tokens.size(), embedding.shape(1)});
  for (index_t t = 0; t < tokens.size(); ++t)
    for (index_t m = 0; m < x.shape(1); ++m) x(t, m) = embedding(static_cast<index_t>(tokens[t]), m);
  for (index_t layer = 0; layer < config.at("num_hidden_layers").size(); ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    add(x, attention_layer(rms_norm(x, vector(checkpoint, prefix + "input_layernorm.weight"), epsilon),
                           attention_weights(checkpoint, prefix)));
    add(x, feed_forward(rms_norm(x, vector(checkpoint, prefix + "post_attention_layernorm.weight"), epsilon),
                        checkpoint, prefix));
  }
  x = rms_norm(x, vector(checkpoint, "model.norm.weight"), epsilon);
  return linear(x, checkpoint.has("lm_head.weight") ? matrix(checkpoint, "lm_head.weight") : embedding);
}

}  // namespace kv::test::oracle
