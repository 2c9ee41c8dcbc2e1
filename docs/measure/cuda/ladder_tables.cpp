/// @file
/// ladder_tables FOLDER: writes ladder.md, the rungs with what was predicted and, where a file of tests/gpu/verify lies in
/// FOLDER, what was measured; and ladder_traffic.md, what each rung reads, counted on the CPU runtime. Built in the
/// runtime's traffic mode. docs/measure/run calls it.
#include <algorithm>
#include <cmath>
#include <fstream>
#include <iostream>
#include <map>

#include "chapters/06_cuda_kernels/ladder/ladder.hpp"
#include "common/cuda/simt/traffic.hpp"
#include "common/error.hpp"
#include "common/json.hpp"
#include "tests/support/mla_cases.hpp"

namespace {

using namespace kv;
using namespace kv::cuda;
namespace fs = std::filesystem;

constexpr int batch = 128, context = 4096;  // of the predictions

std::string decimal(double value, int digits) {
  char text[32];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

// ---- predicted and measured ----

/// A run on a GPU, as tests/gpu/verify writes it.
struct Measured {
  std::string circumstances;
  std::map<std::pair<int, int>, double> shares;  // (rung, heads) -> share of the roofline
  std::map<int, double> flashmla;                // heads -> the same of FlashMLA, where it was built in
};

std::vector<Measured> measured_on_gpus(const fs::path& folder) {
  std::vector<Measured> runs;
  for (const auto& file : fs::directory_iterator(folder)) {
    if (file.path().extension() != ".json") continue;
    const Json report = Json::read(file.path());
    if (!report.is_object() || !report.has("benchmark") || !report.at("benchmark").is_object()) continue;
    Measured run{.circumstances = report.at("device").text() + ", driver " + report.at("driver").text() + ", CUDA " +
                                  report.at("cuda").text() + ", " + report.at("date").text().substr(0, 10) + ", commit " +
                                  report.at("commit").text().substr(0, 7),
                 .shares = {},
                 .flashmla = {}};
    const Json shapes = report.at("benchmark").at("ladder");
    for (index_t i = 0; i < shapes.length(); ++i) {
      const Json shape = shapes.at(i), rungs = shape.at("rungs");
      if (shape.at("batch").integer() != batch || shape.at("context").integer() != context) continue;
      const int heads = static_cast<int>(shape.at("heads").integer());
      for (index_t r = 0; r < rungs.length(); ++r)
        if (rungs.at(r).has("roofline_share"))
          run.shares[{static_cast<int>(rungs.at(r).at("rung").integer()), heads}] = rungs.at(r).at("roofline_share").number();
      if (!shape.has("yardstick") || !shape.at("yardstick").has("roofline_share")) continue;
      const std::string of = shape.at("yardstick").at("commit").text();
      if (run.flashmla.empty() && !of.empty()) run.circumstances += ", FlashMLA " + of;
      run.flashmla[heads] = shape.at("yardstick").at("roofline_share").number();
    }
    runs.push_back(std::move(run));
  }
  return runs;
}

std::string predicted(const std::optional<Percent>& percent) {
  if (!percent) return "-";
  return std::to_string(percent->low) + (percent->low == percent->high ? "" : "-" + std::to_string(percent->high)) + "%";
}

/// @param shares a member of each run
template <class Key>
std::string measured(const std::vector<Measured>& runs, std::map<Key, double> Measured::* shares, const Key& key) {
  std::string text;
  for (const Measured& run : runs)
    if (const auto found = (run.*shares).find(key); found != (run.*shares).end())
      text += (text.empty() ? "" : ", ") + decimal(100 * found->second, 0) + "%";
  return text.empty() ? "not measured yet" : text;
}

std::string ladder_table(const std::vector<Measured>& runs) {
  std::string text = "| rung | what it removes | predicted, 16 heads | measured | predicted, 128 heads | measured |\n"
                     "| --- | --- | ---: | ---: | ---: | ---: |\n";
  const auto rung_at = [&](int rung, int heads) { return measured(runs, &Measured::shares, {rung, heads}); };
  for (const Rung& rung : ladder())
    text += "| " + std::to_string(rung.number) + " " + rung.name + " | " + rung.removes + " | " +
            predicted(rung.prediction.at_16_heads) + " | " + rung_at(rung.number, 16) + " | " +
            predicted(rung.prediction.at_128_heads) + " | " + rung_at(rung.number, 128) + " |\n";
  const bool beside_flashmla = std::any_of(runs.begin(), runs.end(), [](const Measured& run) { return !run.flashmla.empty(); });
  if (beside_flashmla)
    text += "| FlashMLA | a yardstick, its schedule not counted | - | " + measured(runs, &Measured::flashmla, 16) + " | - | " +
            measured(runs, &Measured::flashmla, 128) + " |\n";
  text += "\n<div class=\"measured\">Share of the roofline, batch " + std::to_string(batch) + ", context " +
          std::to_string(context) + ". Predicted for an H200. ";
  if (runs.empty()) text += "No GPU has run these kernels yet.";
  for (const Measured& run : runs) text += "Measured on " + run.circumstances + ". ";
  return text + "</div>\n";
}

// ---- traffic ----

std::string traffic_table() {
  constexpr int heads = 16;
  const std::vector<int> lengths{128, 64};
  constexpr double tokens = 128 + 64;
  std::string text = "| rung | bytes of cache asked for, per token | of these, in sectors fetched | times each byte is read |\n"
                     "| --- | ---: | ---: | ---: |\n";
  for (const Rung& rung : ladder()) {
    const MlaDecodeOnDevice device(kv::test::make({heads, lengths, 1}));
    Buffer<unsigned char> workspace(rung.workspace_bytes(device.problem(), 2));
    const simt::Traffic traffic =
        simt::measure_traffic([&] { rung.launch(device.problem(), {workspace.data(), 2}); });
    const simt::Access latents = traffic.loads_of(device.problem().latents);
    text += "| " + std::to_string(rung.number) + " " + rung.name + " | " +
            decimal(static_cast<double>(latents.bytes) / tokens, 0) + " | " + decimal(100 * latents.used(), 0) + "% | " +
            decimal(static_cast<double>(latents.bytes) / static_cast<double>(latents.unique_bytes), 1) + " |\n";
  }
  return text + "\n<div class=\"measured\">Counted on the CPU runtime: 16 heads, sequences of 128 and 64 tokens. A row of the "
                "cache has 1152 bytes. The second number is the share of the 32-byte sectors that a warp's request uses; caches are not "
                "modelled.</div>\n";
}

void write(const fs::path& file, const std::string& text) {
  std::ofstream stream(file);
  if (!(stream << text) || !stream.flush()) throw Error(file.string() + ": cannot be written");
}

}  // namespace

int main(int count, char** words) {
  if (count != 2) {
    std::cerr << "usage: ladder_tables FOLDER\n";
    return 2;
  }
  try {
    const fs::path folder = words[1];
    write(folder / "ladder.md", ladder_table(measured_on_gpus(folder)));
    write(folder / "ladder_traffic.md", traffic_table());
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "ladder_tables: error: " << error.what() << "\n";
    return 1;
  }
}
