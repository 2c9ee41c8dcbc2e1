#include <random>

#include "chapters/01_uncached_attention/attend.hpp"
#include "common/text/table.hpp"
#include "common/model/metrics.hpp"
#include "common/tensor/parallel.hpp"
#include "docs/measure/measurements.hpp"

namespace kv::book {
namespace {

constexpr index_t repeats = 51;

Tensor<3> random_tensor(const Shape<3>& shape) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  Tensor<3> x = empty<3>(shape);
  for (float& value : x) value = normal(random);
  return x;
}

struct Times {
  std::vector<double> view, slice;
};

/// One decode step of one layer, on the storage itself and on slices cut out of it, in turns.
Times time_both(const Tensor<3>& queries, const Tensor<3>& keys, const Tensor<3>& values, index_t S) {
  Times times;
  for (index_t i = 0; i < repeats; ++i) {
    const Stopwatch on_view;
    attend(queries, keys, values, S);
    times.view.push_back(1000 * on_view.milliseconds());
    const Stopwatch on_slice;
    attend(queries, rows(keys, 0, S), rows(values, 0, S), S);
    times.slice.push_back(1000 * on_slice.milliseconds());
  }
  return times;
}

}  // namespace

void measure_slices(const Laboratory& laboratory, Report& report) {
  const index_t before = threads();
  set_threads(1);  // or a second core would fetch what the first has copied, from wherever that core is
  struct Layer {
    std::string name;
    index_t H, G, D;
  };
  const ModelShape& shape = laboratory.shape();
  const std::vector<Layer> layers{{"shipped model", shape.heads, shape.key_value_heads, shape.head_width},
                                  {"Llama 3 8B", 32, 8, 128}};
  MarkdownTable table{{"one layer of", "S", "bytes copied by slices", "on the storage, us", "on slices, us", "slices cost"}};
  std::vector<JsonObject> rows;
  for (const auto& [name, H, G, D] : layers) {
    const Tensor<3> queries = random_tensor({1, H, D});
    const Tensor<3> keys = random_tensor({4096, G, D}), values = random_tensor({4096, G, D});
    for (const index_t S : {128, 1024, 4000}) {
      const Times times = time_both(queries, keys, values, S);
      const std::size_t copied = 2 * S * G * D * sizeof(float);
      table.push_back({name, grouped(S), grouped(copied), decimal(median(times.view), 1), decimal(median(times.slice), 1),
                       "x " + decimal(median(times.slice) / median(times.view), 2)});
      JsonObject row;
      row.set("layer", name).set("S", S).set("copied_bytes", copied).set("view_us", median(times.view)).set("slice_us",
                                                                                                       median(times.slice));
      rows.push_back(row);
    }
  }
  set_threads(before);
  report.table("slices", table, "One decode step (T = 1) of attend in one layer, on one thread, capacity 4,096, medians of " + std::to_string(repeats) + ". Slices copy keys and "
                                "values; on the storage itself nothing is copied. The numbers of the model apply to the first rows.");
  report.numbers("slices", rows);
}

}  // namespace kv::book
