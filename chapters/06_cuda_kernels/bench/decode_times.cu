#include <algorithm>
#include <cmath>

#include "chapters/06_cuda_kernels/bench/bench.hpp"
#include "chapters/06_cuda_kernels/bench/random.hpp"
#include "chapters/06_cuda_kernels/model/device_model_parts.hpp"
#include "chapters/06_cuda_kernels/model/ladder_attention.hpp"
#include "common/model/metrics.hpp"

namespace kv::cuda {
namespace {

constexpr float norm_epsilon = 1e-6f;

OwnedNorm ones(index_t width) { return {Tensor<1>(Shape<1>{width}, 1.0f), norm_epsilon}; }
OwnedNorm no_norm() { return {empty<1>({0}), norm_epsilon}; }

/// Makes matrices, each from a seed of its own, and counts their bytes.
struct RandomWeights {
  std::uint64_t seed = 0;
  std::size_t bytes = 0;
  Matrix matrix(index_t rows, index_t columns) {
    Matrix made = random_matrix(rows, columns, ++seed);
    bytes += made.bytes();
    return made;
  }
  SwiGlu swiglu(index_t experts, index_t width, index_t inner) {
    return {matrix(experts * 2 * inner, width), matrix(experts * width, inner)};
  }
};

LatentSizes latent_sizes(const ModelShape& s) {
  return {.width = s.width, .heads = s.heads, .rank = s.rank, .rope_width = s.rope_width, .plain_width = s.plain_width,
          .value_width = s.value_width, .query_rank = {}};
}

std::unique_ptr<LadderAttentionLayer> latent_attention(const ModelShape& s, const RopeRows& rope,
                                                       const std::shared_ptr<StepPages>& step, RandomWeights& weights) {
  const LatentSizes sizes = latent_sizes(s);
  auto layer = std::make_unique<LadderAttentionLayer>(
      AbsorbedAttentionLayer::Weights{.down = {.down = weights.matrix(s.heads * sizes.key_width() + sizes.row_width(), s.width),
                                               .query_norm = no_norm(),
                                               .latent_norm = ones(s.rank),
                                               .query_up = Matrix(),
                                               .sizes = sizes,
                                               .rope = rope},
                                      .into_latents = weights.matrix(s.heads * s.rank, s.plain_width),
                                      .key_up = Matrix(),  // for prompts
                                      .out_of_latents = weights.matrix(s.heads * s.value_width, s.rank),
                                      .output = weights.matrix(s.width, s.heads * s.value_width),
                                      .softmax_factor = 1.0f},
      step);
  fill_random(layer->pages().data(), layer->pages().size(), 1.0f, ++weights.seed, nullptr);  // as if it had been filled
  return layer;
}

using Heads = OwnedHeads<bf16>;

std::shared_ptr<Heads> random_heads(const ModelShape& s, const Limits& limits, RandomWeights& weights) {
  const auto fill = [&](OwnedCache<bf16>& cache) {
    fill_random(StoredRows<bf16>(cache).data, cache.bytes() / sizeof(bf16), 1.0f, ++weights.seed, nullptr);
  };
  auto heads = std::make_shared<Heads>(OwnedCache<bf16>(limits, s.key_value_heads * s.plain_width),
                                       OwnedCache<bf16>(limits, s.key_value_heads * s.value_width));
  fill(heads->keys);
  fill(heads->values);
  return heads;
}

std::unique_ptr<AttentionLayer> grouped_attention(const ModelShape& s, const RopeRows& rope, const Limits& limits,
                                                  std::shared_ptr<Heads> cache, RandomWeights& weights) {
  const index_t rows = (s.heads + s.key_value_heads) * s.plain_width + s.key_value_heads * s.value_width;
  return std::make_unique<GroupedAttentionLayer<bf16>>(
      GroupedWeights{.projection = weights.matrix(rows, s.width),
                     .output = weights.matrix(s.width, s.heads * s.value_width),
                     .query_norm = no_norm(),
                     .key_norm = no_norm(),
                     .sizes = {s.heads, s.key_value_heads, s.plain_width, s.value_width}},
      rope, limits.capacity, std::move(cache));
}

std::unique_ptr<FeedForwardLayer> feed_forward(const ModelShape& s, bool dense, RandomWeights& weights) {
  if (dense) return std::make_unique<DenseLayer>(weights.swiglu(1, s.width, s.feed_forward_width));
  const RoutingRule rule{.scores = RoutingRule::Scores::softmax, .experts = s.experts, .chosen = s.chosen};
  return std::make_unique<MixtureLayer>(MixtureLayer::Weights{.gate = weights.matrix(s.experts, s.width),
                                                              .rule = rule,
                                                              .experts = weights.swiglu(s.experts + s.shared_experts, s.width, s.expert_width),
                                                              .shared = static_cast<int>(s.shared_experts)});
}

/// @param shared what layers keep heads in one after the other, or nothing: then each has its own cache
DeviceModel::Parts random_model(const ModelShape& s, const Limits& limits, const std::shared_ptr<Heads>& shared, RandomWeights& weights) {
  Rope plain;
  for (const double frequency : rope_frequencies(s.rope_width, 10000.0)) plain.frequencies.push_back(static_cast<float>(frequency));
  OwnedRope rope(plain, limits.capacity);
  const auto step = s.key_value_heads > 0 ? nullptr : std::make_shared<StepPages>(s.heads, limits, best_rung());
  const auto attention = [&]() -> std::unique_ptr<AttentionLayer> {
    if (step) return latent_attention(s, rope, step, weights);
    return grouped_attention(s, rope, limits, shared ? shared : random_heads(s, limits, weights), weights);
  };
  std::vector<DeviceLayer> layers;
  for (index_t l = 0; l < s.layers; ++l)
    layers.push_back({.attention_norm = ones(s.width),
                      .attention = attention(),
                      .feed_forward_norm = ones(s.width),
                      .feed_forward = feed_forward(s, l < s.dense_layers, weights)});
  return {.rope = std::move(rope),
          .embedding = weights.matrix(s.vocabulary, s.width),
          .layers = std::move(layers),
          .final_norm = ones(s.width),
          .head = weights.matrix(s.vocabulary, s.width),
          .limits = limits,
          .before = step,
          .remembers = shared == nullptr};
}

}  // namespace

ModelShape v2_lite() {
  return {.name = "DeepSeek-V2-Lite's shapes", .layers = 27, .dense_layers = 1, .width = 2048, .heads = 16, .rank = 512, .rope_width = 64,
          .plain_width = 128, .value_width = 128, .feed_forward_width = 10944, .experts = 64, .chosen = 6, .expert_width = 1408,
          .shared_experts = 2, .vocabulary = 102400};
}

ModelShape llama_8b() {
  return {.name = "Llama-3-8B's shapes", .layers = 32, .dense_layers = 32, .width = 4096, .heads = 32, .rank = 0, .rope_width = 128,
          .plain_width = 128, .value_width = 128, .feed_forward_width = 14336, .experts = 0, .chosen = 0, .expert_width = 0,
          .shared_experts = 0, .vocabulary = 128256, .key_value_heads = 8};
}

ModelShape tiny_heads() {
  return {.name = "tiny shapes with heads", .layers = 2, .dense_layers = 2, .width = 64, .heads = 4, .rank = 0, .rope_width = 16,
          .plain_width = 16, .value_width = 16, .feed_forward_width = 96, .experts = 0, .chosen = 0, .expert_width = 0,
          .shared_experts = 0, .vocabulary = 120, .key_value_heads = 2};
}

ModelShape tiny_model() {
  return {.name = "tiny shapes", .layers = 2, .dense_layers = 1, .width = 64, .heads = 2, .rank = 512, .rope_width = 64,
          .plain_width = 16, .value_width = 16, .feed_forward_width = 96, .experts = 4, .chosen = 2, .expert_width = 24,
          .shared_experts = 1, .vocabulary = 120};
}

namespace {

/// Weights that a step of N rows needs: of the embedding some rows, and of E experts those that somebody has chosen,
/// E (1 - (1 - K/E)^N) if each token chooses K of them at random.
double touched_weight_bytes(const ModelShape& s, index_t rows, std::size_t all_bytes) {
  constexpr double element = sizeof(bf16);
  const double E = static_cast<double>(s.experts), K = static_cast<double>(s.chosen);
  const double idle = s.experts == 0 ? 0.0 : E * std::pow(1.0 - K / E, static_cast<double>(rows));
  const double expert = 3.0 * static_cast<double>(s.width * s.expert_width) * element;
  return static_cast<double>(all_bytes) - static_cast<double>(s.vocabulary * s.width) * element -
         static_cast<double>(s.layers - s.dense_layers) * idle * expert;
}

ModelTime model_time(const ModelShape& shape, const DeviceModel& model, const RandomWeights& weights, index_t batch, index_t context,
                     index_t together, const std::vector<double>& times) {
  const double milliseconds = median(times);
  return {.batch = batch,
          .context = context,
          .attention = shape.key_value_heads > 0 ? "attend" : best_rung().name,
          .weight_bytes = weights.bytes,
          .cache_bytes = model.cache_bytes(),
          .steps_together = together,
          .touched_bytes = touched_weight_bytes(shape, batch, weights.bytes) + static_cast<double>(model.cache_bytes()),
          .milliseconds = milliseconds,
          .tokens_per_s = static_cast<double>(batch) / milliseconds * 1e3};
}

}  // namespace

// [measure]
ModelTime measure_decode(const ModelShape& shape, index_t batch, index_t context, const BenchSizes& sizes) {
  constexpr index_t together = 4;  // steps that the host starts at once
  const Limits limits{.sequences = batch, .capacity = context + together * (1 + sizes.decode_steps)};
  RandomWeights weights;
  DeviceModel model(random_model(shape, limits, nullptr, weights));
  std::vector<NewRow> rows;
  for (index_t b = 0; b < batch; ++b) rows.push_back({static_cast<Token>(b * 37 % shape.vocabulary), b, context});
  std::vector<double> times;
  for (index_t i = 0; i <= sizes.decode_steps; ++i) {  // the first records the graph
    const Stopwatch watch;
    const std::vector<Token> next = model.next_tokens(rows, together);
    if (i > 0) times.push_back(watch.milliseconds() / together);
    for (index_t b = 0; b < batch; ++b) rows[b].token = next[(together - 1) * batch + b], rows[b].position += together;
  }
  return model_time(shape, model, weights, batch, context, together, times);
}
// [measure]

ModelTime measure_uncached(const ModelShape& shape, index_t context, const BenchSizes& sizes) {
  const Limits limits{.sequences = 1, .capacity = context};
  RandomWeights weights;
  DeviceModel model(random_model(shape, limits, random_heads(shape, limits, weights), weights));
  std::vector<NewRow> rows;
  for (index_t s = 0; s < context; ++s) rows.push_back({static_cast<Token>(s * 37 % shape.vocabulary), 0, s});
  const index_t last[]{context - 1};
  std::vector<double> times;
  for (index_t i = 0; i <= sizes.decode_steps; ++i) {
    const Stopwatch watch;
    model.most_likely(rows, last);
    if (i > 0) times.push_back(watch.milliseconds());
  }
  return model_time(shape, model, weights, 1, context, 1, times);
}

}  // namespace kv::cuda
