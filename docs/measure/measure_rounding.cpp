#include <cmath>
#include <numeric>

#include "chapters/03_preallocated_cache/preallocated_attention.hpp"
#include "chapters/08_quantised_cache/cache_formats.hpp"
#include "chapters/08_quantised_cache/int4_rows.hpp"
#include "common/text/table.hpp"
#include "docs/measure/measurements.hpp"

namespace kv::book {
namespace {

namespace fs = std::filesystem;

constexpr CacheFormat formats[]{CacheFormat::bf16, CacheFormat::f16, CacheFormat::fp8,
                                CacheFormat::int8, CacheFormat::int4};
constexpr index_t tokens = 768, group = 32;  // whole groups

/// Keeps what comes into a layer.
class Recorder : public HeadProjection {
 public:
  Recorder(std::shared_ptr<const HeadProjection> heads, Tensor<2>* input)
      : heads_(std::move(heads)), input_(input) {}
  Heads project(const Tensor<2>& x, std::span<const index_t> at) const override {
    *input_ = x;
    return heads_->project(x, at);
  }
  Tensor<3> queries(const Tensor<2>& x, std::span<const index_t> at) const override {
    return heads_->queries(x, at);
  }
  Tensor<2> output(const Tensor<3>& mixed) const override { return heads_->output(mixed); }
  HeadSizes sizes() const override { return heads_->sizes(); }

 private:
  std::shared_ptr<const HeadProjection> heads_;
  Tensor<2>* input_;
};

/// What comes into the attention of every layer while a held-out text is read.
std::vector<Tensor<2>> layer_inputs(const Checkpoint& checkpoint) {
  std::vector<Token> text =
      Tokenizer(checkpoint.directory() / "tokenizer.json")
          .encode_with_special(text_of(checkpoint.directory().parent_path() / "held_out/hay.txt"));
  text.resize(tokens);
  std::vector<Tensor<2>> inputs(model_sizes(checkpoint.config()).layers);
  Stage stage = find_stage("preallocated");
  stage.make = MakeLayers(
      [&](const Checkpoint& model, const Limits& limits, const StageOptions&) -> MakeLayer {
        return [&, limits](index_t layer) -> LayerHalves {
          const auto recorder =
              std::make_shared<Recorder>(head_projection(model, layer), &inputs[layer]);
          return {std::make_unique<PreallocatedAttention>(recorder, limits)};
        };
      });
  make_decoder(checkpoint, stage, {.sequences = 1, .capacity = tokens}).logits(0, text);
  return inputs;
}

/// Numbers of one kind, of all layers: (S,G,D) each.
struct Kind {
  std::string name;
  std::vector<Tensor<3>> layers = {};
};

std::vector<index_t> positions(bool turned) {
  std::vector<index_t> result(tokens, 0);  // at position 0 nothing is turned
  if (turned) std::iota(result.begin(), result.end(), index_t{0});
  return result;
}

/// Every head's numbers times the Hadamard matrix over sqrt(D): a rotation, so products with
/// queries that are turned likewise stay. REQUIRES: D is a power of two
Tensor<3> hadamard(Tensor<3> x) {
  const index_t D = x.shape(2);
  for (index_t s = 0; s < x.shape(0); ++s)
    for (index_t g = 0; g < x.shape(1); ++g) {
      const std::span<float> head = row(x, s, g);
      for (index_t half = 1; half < D; half *= 2)
        for (index_t d = 0; d < D; ++d)
          if ((d & half) == 0) {
            const float a = head[d], b = head[d + half];
            head[d] = (a + b) * std::sqrt(0.5f);
            head[d + half] = (a - b) * std::sqrt(0.5f);
          }
    }
  return x;
}

std::vector<Kind> kinds_of_heads(const Checkpoint& checkpoint) {
  Kind keys{"keys"}, unturned{"keys before their rotation"}, spread{"keys times Hadamard"},
      values{"values"};
  const std::vector<Tensor<2>> inputs = layer_inputs(checkpoint);
  for (index_t layer = 0; layer < inputs.size(); ++layer) {
    const auto projection = head_projection(checkpoint, layer);
    Heads heads = projection->project(inputs[layer], positions(true));
    unturned.layers.push_back(projection->project(inputs[layer], positions(false)).keys);
    spread.layers.push_back(hadamard(heads.keys));
    keys.layers.push_back(std::move(heads.keys));
    values.layers.push_back(std::move(heads.values));
  }
  return {keys, unturned, spread, values};
}

std::vector<Kind> kinds_of_latents(const Checkpoint& checkpoint) {
  Kind plain{"latents, plain part"}, turned{"latents, rotated part"};
  const std::vector<Tensor<2>> inputs = layer_inputs(checkpoint);
  for (index_t layer = 0; layer < inputs.size(); ++layer) {
    const auto projection = latent_projection(checkpoint, layer);
    const index_t R = projection->latent_sizes().rank, P = projection->latent_sizes().rope_width;
    const Tensor<2> rows = projection->latents(inputs[layer], positions(true));
    Tensor<3> first = empty<3>({tokens, 1, R}), second = empty<3>({tokens, 1, P});
    for (index_t s = 0; s < tokens; ++s) {
      std::ranges::copy(row(rows, s).first(R), row(first, s, 0).begin());
      std::ranges::copy(row(rows, s).subspan(R), row(second, s, 0).begin());
    }
    plain.layers.push_back(first);
    turned.layers.push_back(second);
  }
  return {plain, turned};
}

Tensor<3> by_row(CacheFormat format, Tensor<3> x) {
  const auto row_format = head_formats(format, {1, 1, x.shape(2), x.shape(2)}).first;
  std::vector<std::byte> stored(row_format->bytes());
  for (index_t s = 0; s < x.shape(0); ++s)
    for (index_t g = 0; g < x.shape(1); ++g) {
      row_format->store(row(x, s, g), stored.data());
      row_format->widen({stored.data(), stored.size(), 1}, row(x, s, g).data(), x.shape(2));
    }
  return x;
}

/// int4 down every channel, 32 positions together.
Tensor<3> by_channel(const Tensor<3>& x) {
  Tensor<3> channels = empty<3>({x.shape(0) / group, x.shape(1) * x.shape(2), group}), result = x;
  for (index_t s = 0; s < x.shape(0); ++s)
    for (index_t i = 0; i < channels.shape(1); ++i)
      channels(s / group, i, s % group) = x(s, i / x.shape(2), i % x.shape(2));
  channels = by_row(CacheFormat::int4, channels);
  for (index_t s = 0; s < x.shape(0); ++s)
    for (index_t i = 0; i < channels.shape(1); ++i)
      result(s, i / x.shape(2), i % x.shape(2)) = channels(s / group, i, s % group);
  return result;
}

/// The length of all errors over the length of all numbers.
template <class Round>
double relative_error(const Kind& kind, Round round) {
  double errors = 0, all = 0;
  for (const Tensor<3>& exact : kind.layers) {
    const Tensor<3> found = round(exact);
    for (index_t i = 0; i < exact.size(); ++i) {
      const double x = exact.data()[i], error = found.data()[i] - x;
      errors += error * error;
      all += x * x;
    }
  }
  return std::sqrt(errors / all);
}

std::string percent(double fraction) {
  return decimal(100 * fraction, fraction < 0.001 ? 3 : 2) + "%";
}

/// The largest number of every channel of one head, by magnitude.
Series largest_by_channel(const std::string& name, const Tensor<3>& x, index_t g) {
  Series series{name, {}};
  for (index_t d = 0; d < x.shape(2); ++d) {
    double largest = 0;
    for (index_t s = 0; s < x.shape(0); ++s)
      largest = std::max<double>(largest, std::abs(x(s, g, d)));
    series.points.push_back({static_cast<double>(d), largest});
  }
  return series;
}

/// How far a head's largest channel stands out.
double outlier(const Tensor<3>& x, index_t g) {
  std::vector<Point> points = largest_by_channel("", x, g).points;
  std::ranges::sort(points, {}, &Point::y);
  return points.back().y / points[points.size() / 2].y;
}

}  // namespace

void measure_rounding(const Laboratory& laboratory, Report& report) {
  const fs::path data = laboratory.checkpoint().directory().parent_path();
  const std::vector<Kind> heads = kinds_of_heads(Checkpoint(data / "tiny-gqa")),
                          latents = kinds_of_latents(Checkpoint(data / "tiny-mla"));
  std::vector<Kind> kinds = heads;
  kinds.insert(kinds.end(), latents.begin(), latents.end());

  MarkdownTable table{
      {"what is rounded", "bf16", "f16", "fp8", "int8", "int4 by row", "int4 by channel"}};
  std::vector<JsonObject> rows;
  for (const Kind& kind : kinds) {
    std::vector<std::string> cells{kind.name};
    std::vector<double> errors;
    for (const CacheFormat format : formats)
      errors.push_back(relative_error(kind, [=](const Tensor<3>& x) { return by_row(format, x); }));
    errors.push_back(relative_error(kind, by_channel));
    for (const double error : errors) cells.push_back(percent(error));
    table.push_back(cells);
    rows.push_back(JsonObject()
                       .set("kind", kind.name)
                       .set("bf16", errors[0])
                       .set("f16", errors[1])
                       .set("fp8", errors[2])
                       .set("int8", errors[3])
                       .set("int4_by_row", errors[4])
                       .set("int4_by_channel", errors[5]));
  }
  const Report about =
      report.with_model("tiny-gqa and tiny-mla, models of 2 to 4 million parameters");
  about.table(
      "rounding_errors", table,
      "The length of all errors over the length of all numbers, all layers together, while 768 "
      "tokens of held-out text are read. By row: a scale for a row of a head, in 4 bits for 32 "
      "neighbouring numbers. By channel: for 32 positions of a channel.");
  report.numbers("rounding_errors", rows);

  index_t layer = 0, head = 0;
  for (index_t l = 0; l < heads[1].layers.size(); ++l)
    for (index_t g = 0; g < heads[1].layers[l].shape(1); ++g)
      if (outlier(heads[1].layers[l], g) > outlier(heads[1].layers[layer], head))
        layer = l, head = g;
  about.figure(
      "rounding_channels",
      {.title = "The largest number of every channel, layer " + std::to_string(layer) + ", head " +
                std::to_string(head),
       .x_label = "channel",
       .y_label = "magnitude",
       .series = {largest_by_channel("keys", heads[0].layers[layer], head),
                  largest_by_channel("keys before their rotation", heads[1].layers[layer], head),
                  largest_by_channel("keys times Hadamard", heads[2].layers[layer], head),
                  largest_by_channel("values", heads[3].layers[layer], head)}});
}

}  // namespace kv::book
