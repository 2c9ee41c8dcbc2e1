#include <functional>
#include <numeric>
#include <random>

#include "chapters/01_uncached_attention/attend.hpp"
#include "common/text/table.hpp"
#include "common/model/metrics.hpp"
#include "docs/measure/measurements.hpp"

namespace kv::book {
namespace {

/// The parts of a model's layers, to be run one by one.
struct Parts {
  std::vector<std::shared_ptr<const HeadProjection>> projections;
  std::vector<std::shared_ptr<const FeedForward>> feed_forwards;
  std::shared_ptr<const Linear> head;
};

Parts load_parts(const Laboratory& laboratory) {
  const ModelShape& shape = laboratory.shape();
  Parts parts;
  for (index_t layer = 0; layer < shape.layers; ++layer) {
    parts.projections.push_back(head_projection(laboratory.checkpoint(), layer));
    parts.feed_forwards.push_back(feed_forward(laboratory.checkpoint(), layer));
  }
  const bool tied = model_sizes(laboratory.checkpoint().config()).tied_embeddings;
  parts.head = laboratory.checkpoint().linear(tied ? "model.embed_tokens.weight" : "lm_head.weight", shape.vocabulary, shape.width);
  return parts;
}

template <std::size_t N>
Tensor<N> random_tensor(const Shape<N>& shape) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  Tensor<N> x = empty<N>(shape);
  for (float& value : x) value = normal(random);
  return x;
}

double median_ms(index_t repeats, const std::function<void()>& work) {
  work();
  std::vector<double> times;
  for (index_t i = 0; i < repeats; ++i) {
    const Stopwatch watch;
    work();
    times.push_back(watch.milliseconds());
  }
  return median(times);
}

/// Milliseconds of each part of a step with T new tokens, the last of S, over all layers.
struct PartTimes {
  double projections, attention, feed_forward, head;
  double total() const { return projections + attention + feed_forward + head; }
};

PartTimes time_parts(const Parts& parts, const ModelShape& shape, index_t T, index_t S, index_t repeats) {
  const Tensor<2> x = random_tensor<2>({T, shape.width});
  const Tensor<3> keys = random_tensor<3>({S, shape.key_value_heads, shape.head_width}), values = keys;
  const Tensor<3> mixed = random_tensor<3>({T, shape.heads, shape.head_width});
  std::vector<index_t> positions(T);
  std::iota(positions.begin(), positions.end(), S - T);
  PartTimes times{};
  times.projections = median_ms(repeats, [&] {
    for (const auto& projection : parts.projections) {
      projection->project(x, positions);
      projection->output(mixed);
    }
  });
  times.attention = median_ms(repeats, [&] {
    for (index_t layer = 0; layer < shape.layers; ++layer) attend(mixed, keys, values, S);
  });
  times.feed_forward = median_ms(repeats, [&] {
    for (const auto& part : parts.feed_forwards) part->forward(x);
  });
  const Tensor<2> last = random_tensor<2>({1, shape.width});
  times.head = median_ms(repeats, [&] { (*parts.head)(last); });
  return times;
}

std::string flops_text(double flops) {
  return flops >= 1e9 ? decimal(flops / 1e9, 2) + " G" : decimal(flops / 1e6, 2) + " M";
}

/// One case: a step with T new tokens, the last of S.
struct Case {
  std::string name;
  index_t T, S, repeats;
};

}  // namespace

void measure_parts(const Laboratory& laboratory, Report& report) {
  const Parts parts = load_parts(laboratory);
  const index_t longest = laboratory.context();
  const std::vector<Case> cases{{"uncached, S = 128", 128, 128, 21},
                                {"uncached, S = " + grouped(longest), longest, longest, 7},
                                {"cached, S = 128", 1, 128, 101},
                                {"cached, S = " + grouped(longest), 1, longest, 101}};
  MarkdownTable counted{{"FLOPs"}, {"projections"}, {"attention"}, {"feed-forward"}, {"output matrix"}, {"all"}};
  MarkdownTable timed = counted;
  timed[0][0] = "milliseconds";
  std::vector<JsonObject> rows;
  for (const auto& [name, T, S, repeats] : cases) {
    const Flops flops = count_flops(laboratory.shape(), T, S);
    const PartTimes times = time_parts(parts, laboratory.shape(), T, S, repeats);
    const auto add = [&](index_t row, double count, double ms) {
      counted[row].push_back(flops_text(count) + " (" + decimal(100 * count / flops.total(), 0) + "%)");
      timed[row].push_back(decimal(ms, 3) + " (" + decimal(100 * ms / times.total(), 0) + "%)");
    };
    counted[0].push_back(name);
    timed[0].push_back(name);
    add(1, flops.projections, times.projections);
    add(2, flops.attention, times.attention);
    add(3, flops.feed_forward, times.feed_forward);
    add(4, flops.head, times.head);
    add(5, flops.total(), times.total());
    JsonObject row;
    row.set("T", T).set("S", S).set("projection_flops", flops.projections).set("attention_flops", flops.attention)
        .set("feed_forward_flops", flops.feed_forward).set("head_flops", flops.head).set("projection_ms", times.projections)
        .set("attention_ms", times.attention).set("feed_forward_ms", times.feed_forward).set("head_ms", times.head);
    rows.push_back(row);
  }
  report.table("parts_flops", counted, "One new token, the last of S, counted by the formulas above.");
  report.table("parts_time", timed, "One new token, the last of S: each part run alone on the model's weights, medians.");
  report.numbers("parts", rows);
}

}  // namespace kv::book
