#include "docs/measure/cuda/ladder_figures.hpp"

#include <algorithm>

#include "chapters/06_cuda_kernels/ladder/mla_decode.hpp"

namespace kv::book {
namespace {

constexpr int batch = 128, context = 4096;  // as in the tables

/// Multiply-adds count twice; a row of the cache is read once for all heads.
double intensity(double heads) {
  return 2 * heads * (cuda::latent_width + cuda::value_width) / (sizeof(cuda::bf16) * cuda::latent_width);
}

std::string heads_of(const Json& shape) { return std::to_string(shape.at("heads").integer()) + " heads"; }

/// Calls each(shape) for the shapes of the tables that were measured.
template <class Each>
void for_each_shape(const Json& report, Each each) {
  const Json shapes = report.at("benchmark").at("ladder");
  for (index_t i = 0; i < shapes.length(); ++i)
    if (shapes.at(i).at("batch").integer() == batch && shapes.at(i).at("context").integer() == context) each(shapes.at(i));
}

/// A point for each rung: x(rung's number, 7.25 for 7b), and one of its measured fields.
template <class X>
Series rungs(const Json& shape, const char* field, X x) {
  Series series{heads_of(shape), {}};
  const Json rungs = shape.at("rungs");
  for (index_t r = 0; r < rungs.length(); ++r)
    if (rungs.at(r).has(field)) {
      const double step = rungs.at(r).has("letter") ? (rungs.at(r).at("letter").text()[0] - 'a') / 4.0 : 0.0;
      series.points.push_back({x(rungs.at(r).at("rung").number() + step), rungs.at(r).at(field).number()});
    }
  return series;
}

}  // namespace

Plot ladder_times(const Json& report) {
  Plot plot{.title = "MLA decode, rung by rung, on an " + report.at("device").text(), .x_label = "rung", .y_label = "microseconds",
            .series = {}, .x_scale = Scale::linear, .y_scale = Scale::logarithmic};
  for_each_shape(report, [&](const Json& shape) {
    plot.series.push_back(rungs(shape, "microseconds", [](double rung) { return rung; }));
    if (!shape.has("yardstick") || !shape.at("yardstick").has("microseconds")) return;
    const double time = shape.at("yardstick").at("microseconds").number(), last = plot.series.back().points.back().x;
    plot.series.push_back({"FlashMLA, " + heads_of(shape), {{1, time}, {last, time}}});
  });
  return plot;
}

Plot ladder_roofline(const Json& report) {
  const Json ceilings = report.at("benchmark").at("ceilings");
  const double terabytes = ceilings.at("read_gb_per_s").number() / 1e3, peak = ceilings.at("cublaslt_tflop_per_s").number();
  Plot plot{.title = "The ladder below the roof that was measured", .x_label = "FLOP for each byte of cache", .y_label = "TFLOP/s",
            .series = {}, .x_scale = Scale::logarithmic, .y_scale = Scale::logarithmic};
  for_each_shape(report, [&](const Json& shape) {
    const double x = intensity(shape.at("heads").number());
    plot.series.push_back(rungs(shape, "tflop_per_s", [x](double) { return x; }));
    plot.series.back().name = "rungs, " + plot.series.back().name;
    if (shape.has("yardstick") && shape.at("yardstick").has("tflop_per_s"))
      plot.series.push_back({"FlashMLA, " + heads_of(shape), {{x, shape.at("yardstick").at("tflop_per_s").number()}}});
  });
  plot.series.push_back({"roof", {}});  // last, so that the others have the colours of ladder_times
  for (const double x : {1.0, peak / terabytes, 1000.0}) plot.series.back().points.push_back({x, std::min(peak, x * terabytes)});
  return plot;
}

}  // namespace kv::book
