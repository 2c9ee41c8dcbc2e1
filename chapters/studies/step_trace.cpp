#include "chapters/studies/step_trace.hpp"

#include <cmath>

#include "chapters/01_uncached_attention/attention_weights.hpp"
#include "chapters/03_preallocated_cache/head_cache.hpp"
#include "chapters/04_latent_cache/cost.hpp"
#include "chapters/04_latent_cache/latent_cache.hpp"
#include "chapters/05_mixture_of_experts/mixture.hpp"
#include "chapters/05_mixture_of_experts/observed_router.hpp"
#include "chapters/models/mixture_config.hpp"
#include "chapters/models/model_tensors.hpp"
#include "chapters/studies/watched_blocks.hpp"
#include "common/files/error.hpp"
#include "common/model/generate.hpp"

namespace kv {
namespace {

/// The rows of one layer, made again.
class RowsMadeAgain {
 public:
  RowsMadeAgain(const Checkpoint& checkpoint, index_t layer, index_t capacity)
      : heads_(head_projection(checkpoint, layer)), cache_(capacity, heads_->sizes()), latents_(0, 0) {
    if (family(checkpoint.config()) != Family::mla) return;
    latent_heads_ = latent_projection(checkpoint, layer);
    latents_ = LatentCache(capacity, latent_heads_->latent_sizes().row_width());
  }

  /// @return (H,S), the weights of the last token of x
  Tensor<2> add(const Tensor<2>& x, std::span<const index_t> positions) {
    const index_t T = positions.size(), S = positions.back() + 1;
    const Heads heads = heads_->project(x, positions);
    cache_.truncate(positions.front());
    cache_.append(heads.keys, heads.values, 0, T);
    if (latent_heads_) {
      latents_.truncate(positions.front());
      latents_.append(latent_heads_->latents(x, positions), 0, T);
    }
    const Tensor<3> weights = attention_weights(rows(heads.queries, T - 1, 1), ContiguousRows(cache_.keys(), cache_.values(), S),
                                                {.position = S - 1, .window = heads_->sizes().window},
                                                1.0f / std::sqrt(static_cast<float>(heads_->sizes().key_width)));
    Tensor<2> last = empty<2>({weights.shape(1), S});
    std::ranges::copy(weights, last.begin());
    return last;
  }

  /// What a layer may keep of each token.
  struct Form {
    std::vector<RowsView> rows;  // of each head (S,D), or of latents (S,R+P)
    index_t row_bytes;
  };
  std::vector<Form> forms() const {
    const HeadSizes sizes = heads_->sizes();
    Form heads{{}, sizes.key_value_heads * (sizes.key_width + sizes.value_width) * sizeof(float)};
    for (index_t g = 0; g < sizes.key_value_heads; ++g) heads.rows.push_back(head_rows(cache_.keys(), g, cache_.length()));
    if (!latent_heads_) return {heads};
    const index_t width = latents_.latents().shape(1);
    return {heads, {{RowsView{latents_.latents().data(), width, latents_.length(), width}}, width * sizeof(float)}};
  }

 private:
  std::shared_ptr<const HeadProjection> heads_;
  std::shared_ptr<const LatentProjection> latent_heads_;  // or none
  HeadCache cache_;
  LatentCache latents_;
};

/// What all layers share: where they write down the step that is being made.
struct Recorder {
  WatchedBlocks blocks;
  std::string stage;
  std::vector<LayerStep> step;
};

/// An attention with somebody beside it who takes notes.
class TracedAttention : public Attention {
 public:
  TracedAttention(std::shared_ptr<Recorder> recorder, index_t layer, RowsMadeAgain rows, std::unique_ptr<Attention> attention)
      : recorder_(std::move(recorder)), layer_(layer), made_(std::move(rows)), attention_(std::move(attention)) {}

  Tensor<2> forward(const Tensor<2>& x, const Batch& batch) override {
    const List<index_t> at = positions(batch, *attention_);
    Tensor<2> y = recorder_->blocks.taken_by(layer_, [&] { return attention_->forward(x, batch); });
    LayerStep& step = recorder_->step[layer_];
    step.fed = at.size();
    step.weights = made_.add(x, at);
    step.bytes = attention_->state_bytes();
    look(step, at.back() + 1);
    return y;
  }
  void require_room(const Batch& batch) const override { attention_->require_room(batch); }
  void prompt_ends(index_t sequence) override { attention_->prompt_ends(sequence); }
  index_t length(index_t sequence) const override { return attention_->length(sequence); }
  index_t truncate(index_t sequence, index_t length) override { return attention_->truncate(sequence, length); }
  StateBytes state_bytes() const override { return attention_->state_bytes(); }

 private:
  /// The form is the one whose rows are all the bytes that the layer says it uses.
  void look(LayerStep& step, index_t S) {
    const auto blocks = recorder_->blocks.of(layer_);
    for (const auto& [rows, row_bytes] : made_.forms()) {
      RowPlaces places = find_rows(blocks, rows);
      if (places.size() * row_bytes != step.bytes.used) continue;
      step.row_bytes = row_bytes;
      step.rows = places.empty() ? std::string(step.fed, 'm') : letters(places, S);
      step.rows.append((step.bytes.allocated - step.bytes.used) / row_bytes, '-');
      before_ = std::move(places);
      return;
    }
    throw Error("stage '" + recorder_->stage + "' uses " + std::to_string(step.bytes.used) + " bytes in layer " +
                std::to_string(layer_) + " that are no rows in f32 as they were made: it cannot be traced");
  }

  std::string letters(const RowPlaces& places, index_t S) const {
    std::string result(S, '.');
    for (const auto& [s, place] : places) {
      const auto old = before_.find(s);
      result[s] = old == before_.end() ? 'w' : old->second == place ? 'k' : 'c';
    }
    return result;
  }

  std::shared_ptr<Recorder> recorder_;
  index_t layer_;
  RowsMadeAgain made_;
  std::unique_ptr<Attention> attention_;
  RowPlaces before_;
};

/// The layer's own mixture, which also says where its last token goes.
std::shared_ptr<const FeedForward> traced_mixture(const Checkpoint& checkpoint, index_t layer, std::shared_ptr<Recorder> recorder) {
  MixtureParts parts = mixture_parts(checkpoint, layer);
  parts.router = std::make_shared<ObservedRouter>(
      parts.router, [=](const Routing& routing) { recorder->step[layer].experts = routing.back(); });
  return std::make_shared<Mixture>(parts);
}

Stage traced(const Stage& stage, std::shared_ptr<Recorder> recorder) {
  const MakeLayers* const own = std::get_if<MakeLayers>(&stage.make);
  if (!own) throw Error("stage '" + std::string(stage.name) + "' makes the whole model: it has no layers to look at");
  Stage result = stage;
  result.make = MakeLayers([=, own = *own](const Checkpoint& checkpoint, const Limits& limits, const StageOptions& options) -> MakeLayer {
    return [=, make = own(checkpoint, limits, options)](index_t layer) -> LayerHalves {
      RowsMadeAgain rows(checkpoint, layer, limits.capacity);  // packs the weights: they are not the layer's own
      LayerHalves halves = recorder->blocks.taken_by(layer, [&] { return make(layer); });
      halves.attention = std::make_unique<TracedAttention>(recorder, layer, std::move(rows), std::move(halves.attention));
      if (!halves.feed_forward && is_mixture(checkpoint.config(), layer))
        halves.feed_forward = traced_mixture(checkpoint, layer, recorder);
      return halves;
    };
  });
  return result;
}

index_t size_of(const MatrixView& matrix) { return matrix.rows * matrix.columns; }

/// Who keeps latents works on them as they are, but for the stages that expand them, always or where it is cheaper.
Cost latent_cost(const Stage& stage, const LatentSizes& sizes, const LayerStep& step) {
  const index_t T = step.fed, S = step.length();
  if (step.row_bytes != sizes.row_width() * sizeof(float)) return naive_cost(sizes, T, S);
  const bool expands = stage.name == "decompressed" || (stage.name == "latent" && expanding_is_cheaper(sizes, T, S));
  return expands ? decompressed_cost(sizes, T, S) : absorbed_cost(sizes, T, S);
}

}  // namespace

index_t LayerStep::read() const {
  index_t rows = 0;
  for (index_t s = 0; s < length(); ++s) {
    float most = 0.0f;
    for (index_t h = 0; h < weights.shape(0); ++h) most = std::max(most, weights(h, s));
    rows += most > 0.0f;
  }
  return rows;
}

StepTrace trace_steps(const Checkpoint& checkpoint, const Stage& stage, const std::vector<Token>& prompt, index_t max_new_tokens) {
  const auto recorder = std::make_shared<Recorder>();
  recorder->stage = stage.name;
  recorder->step.resize(model_sizes(checkpoint.config()).layers);
  StepTrace trace{.stage = stage, .steps = {}, .metrics = {}};
  Decoder decoder = make_decoder(checkpoint, traced(stage, recorder), {.sequences = 1, .capacity = prompt.size() + max_new_tokens - 1});
  GenerateOptions options{.max_new_tokens = max_new_tokens, .sampling = {}, .stop = stop_tokens(checkpoint.directory())};
  options.on_logits = [&](index_t, std::span<const float> logits) {
    trace.steps.push_back({recorder->step, {logits.begin(), logits.end()}, 0});
  };
  options.on_token = [&](index_t, Token token) { trace.steps.back().next = token; };
  trace.metrics = generate(decoder, {{0, prompt}}, options).metrics;
  return trace;
}

index_t numbers_met(const Checkpoint& checkpoint) {
  index_t numbers = feed_forward_cost(checkpoint.config()).active_parameters;
  for (const LayerTensors& layer : model_tensors(checkpoint).layers)
    if (const auto* grouped = std::get_if<GroupedTensors>(&layer.attention)) {
      for (const LinearView* map : {&grouped->query, &grouped->key, &grouped->value, &grouped->output}) numbers += size_of(map->weight);
    } else {
      const auto& latent = std::get<LatentTensors>(layer.attention);
      numbers += (latent.query_down ? size_of(latent.query_down->weight) : 0) + size_of(latent.query_up) +
                 size_of(latent.latent_down.weight) + size_of(latent.output.weight);
    }
  return numbers;
}

StepFlop step_flop(const Checkpoint& checkpoint, const Stage& stage, const Step& step) {
  StepFlop flop{.linear = 2.0 * static_cast<double>(step.layers.front().fed * numbers_met(checkpoint)), .attention = 0.0};
  for (index_t l = 0; l < step.layers.size(); ++l) {
    const AttentionTensors tensors = attention_tensors(checkpoint, l);
    const LayerStep& layer = step.layers[l];
    if (const auto* latent = std::get_if<LatentTensors>(&tensors)) {
      flop.attention += latent_cost(stage, latent->sizes, layer).flop();
    } else {
      const HeadSizes& sizes = std::get<GroupedTensors>(tensors).sizes;
      const index_t per_pair = sizes.query_heads * (sizes.key_width + sizes.value_width);
      flop.attention += 2.0 * visible_pairs(layer.fed, layer.length()) * static_cast<double>(per_pair);
    }
  }
  return flop;
}

}  // namespace kv
