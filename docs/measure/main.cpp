/// @file
/// kvbook-measure MODEL FOLDER COMMIT [NAME]: makes every number and every figure of the book, or those of one measurement,
/// whose numbers then go into a file of their own, measured_NAME.json. docs/measure/run calls it.
#include <iostream>

#include "common/tensor/memory.hpp"
#include "common/model/metrics.hpp"
#include "docs/measure/measurements.hpp"

namespace {

using kv::book::Laboratory, kv::book::Report;

struct Measurement {
  const char* name;
  void (*run)(const Laboratory&, Report&);
  bool when_named = false;  // takes minutes
};

constexpr Measurement measurements[] = {
    {"allocations", kv::book::measure_allocations},  // first: on a fresh heap
    {"cost curve", kv::book::measure_cost_curve},
    {"state bytes", kv::book::measure_state_bytes},
    {"slices", kv::book::measure_slices},
    {"parts", kv::book::measure_parts},
    {"phases", kv::book::measure_phases},
    {"latent", kv::book::measure_latent},
    {"experts", kv::book::measure_experts},
    {"int8", kv::book::measure_int8},
    {"formats", kv::book::measure_formats, true},
    {"format_experts", kv::book::measure_format_experts},
    {"format_speed", kv::book::measure_format_speed},
    {"rounding", kv::book::measure_rounding},
    {"streaming", kv::book::measure_streaming, true},
    {"forgetting_loss", kv::book::measure_forgetting_loss, true},
    {"forgetting_needles", kv::book::measure_forgetting_needles, true},
    {"forgetting_rows", kv::book::measure_forgetting_rows, true},
    {"forgetting_speed", kv::book::measure_forgetting_speed, true},
    {"ranks", kv::book::measure_ranks},
    {"ranks_local", kv::book::measure_ranks_local, true},
    {"ranks_memory", kv::book::measure_ranks_memory, true},
};

}  // namespace

int main(int count, char** words) {
  if (count != 4 && count != 5) {
    std::cerr << "usage: kvbook-measure MODEL FOLDER COMMIT [NAME]\n";
    return 2;
  }
  const std::string only = count == 5 ? words[4] : "";
  try {
    const Laboratory laboratory(words[1]);
    Report report(words[2], kv::book::circumstances(words[3], laboratory.description()));
    for (const Measurement& measurement : measurements) {
      if (only.empty() ? measurement.when_named : only != measurement.name) continue;
      const kv::Stopwatch watch;
      measurement.run(laboratory, report);
      std::cerr << measurement.name << ": " << watch.milliseconds() / 1000 << " s\n";
      kv::keep_freed_memory();  // after the first: times are to be those of kvbook, which does so too
    }
    report.finish(only.empty() ? "measured.json" : "measured_" + only + ".json");
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "kvbook-measure: error: " << error.what() << "\n";
    return 1;
  }
}
