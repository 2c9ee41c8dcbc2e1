/// @file
/// ladder_tables FOLDER: writes ladder.md, the rungs with what was predicted and, where a file of tests/gpu/verify lies in
/// FOLDER, what was measured; ladder_times.md, the same in microseconds, GB/s and TFLOP/s; ladder_traffic.md, what each rung
/// reads, counted on the CPU runtime and by a GPU; gpu_decode.md, decode with a whole model; and for each device ladder_times_DEVICE.svg
/// and ladder_roofline_DEVICE.svg. A report that did not pass is refused. Built in the runtime's traffic mode. docs/measure/run calls it.
#include <algorithm>
#include <cmath>
#include <fstream>
#include <iostream>
#include <map>
#include <set>

#include "chapters/06_cuda_kernels/ladder/ladder.hpp"
#include "common/cuda/simt/traffic.hpp"
#include "common/files/error.hpp"
#include "common/files/json.hpp"
#include "docs/measure/cuda/ladder_figures.hpp"
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
  std::string device, circumstances, limits;     // the device by its short name: "H100"
  std::map<std::pair<std::string, int>, double> shares;  // (rung, heads) -> share of the roofline
  std::map<int, double> flashmla;                // heads -> the same of FlashMLA, where it was built in
  std::map<std::pair<std::string, int>, Json> times;  // (rung, heads) -> microseconds, gb_per_s, tflop_per_s; and ("FlashMLA", heads)
  std::map<std::string, index_t> sectors;        // that a rung's kernel loads, of traffic_problem(); empty: not counted
  Json report;
};

/// "7b"
std::string label_of(const Json& rung) {
  return std::to_string(rung.at("rung").integer()) + (rung.has("letter") ? rung.at("letter").text() : "");
}

bool is_helper(const std::string& kernel) { return kernel == "schedule_kernel" || kernel == "combine_kernel"; }

std::vector<Measured> measured_on_gpus(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& file : fs::directory_iterator(folder))
    if (file.path().extension() == ".json") files.push_back(file.path());
  std::ranges::sort(files);
  std::vector<Measured> runs;
  for (const fs::path& file : files) {
    const Json report = Json::read(file);
    if (!report.is_object() || !report.has("benchmark") || !report.at("benchmark").is_object()) continue;
    if (!report.at("passed").flag()) throw Error(file.string() + ": a step of this report failed; it shows nothing");
    const std::string name = report.at("device").text();  // "NVIDIA H100 80GB HBM3"
    const std::size_t first = name.find(' ') + 1;
    Measured run{.device = name.substr(first, name.find(' ', first) - first),
                 .circumstances = report.at("device").text() + ", driver " + report.at("driver").text() + ", CUDA " +
                                  report.at("cuda").text() + ", " + report.at("date").text().substr(0, 10) + ", commit " +
                                  report.at("commit").text().substr(0, 7),
                 .limits = {},
                 .shares = {},
                 .flashmla = {},
                 .times = {},
                 .sectors = {},
                 .report = report};
    if (report.has("traffic") && report.at("traffic").is_array()) {
      const Json kernels = report.at("traffic");
      std::vector<index_t> sectors;
      for (index_t i = 0; i < kernels.length(); ++i)
        if (!is_helper(kernels.at(i).at("kernel").text())) sectors.push_back(static_cast<index_t>(kernels.at(i).at("sectors").integer()));
      std::vector<std::string> labels;  // tests/gpu/ladder_once runs these
      for (const Rung& rung : ladder())
        if (!rung.untried) labels.push_back(rung.label());
      if (sectors.size() == labels.size())  // otherwise this GPU does not run all of them
        for (std::size_t i = 0; i < labels.size(); ++i) run.sectors[labels[i]] = sectors[i];
    }
    const Json ceilings = report.at("benchmark").at("ceilings");
    if (ceilings.has("read_gb_per_s"))
      run.limits = "; the device reads " + decimal(ceilings.at("read_gb_per_s").number() / 1e3, 2) + " TB/s";
    if (ceilings.has("cublaslt_tflop_per_s"))
      run.limits += "; cuBLASLt multiplies at " + decimal(ceilings.at("cublaslt_tflop_per_s").number(), 0) + " TFLOP/s";
    const Json shapes = report.at("benchmark").at("ladder");
    for (index_t i = 0; i < shapes.length(); ++i) {
      const Json shape = shapes.at(i), rungs = shape.at("rungs");
      if (shape.at("batch").integer() != batch || shape.at("context").integer() != context) continue;
      const int heads = static_cast<int>(shape.at("heads").integer());
      for (index_t r = 0; r < rungs.length(); ++r)
        if (rungs.at(r).has("roofline_share")) {
          const std::pair<std::string, int> key{label_of(rungs.at(r)), heads};
          run.shares[key] = rungs.at(r).at("roofline_share").number();
          run.times.insert_or_assign(key, rungs.at(r));
        }
      if (!shape.has("yardstick") || !shape.at("yardstick").has("roofline_share")) continue;
      const std::string of = shape.at("yardstick").at("commit").text();
      if (run.flashmla.empty() && !of.empty()) run.circumstances += ", FlashMLA " + of;
      run.flashmla[heads] = shape.at("yardstick").at("roofline_share").number();
      run.times.insert_or_assign({"FlashMLA", heads}, shape.at("yardstick"));
    }
    runs.push_back(std::move(run));
  }
  return runs;
}

/// "7b eight warps, never run on a GPU"
std::string titled(const Rung& rung) { return rung.label() + " " + rung.name + (rung.untried ? ", *never run on a GPU*" : ""); }

std::string predicted(const std::optional<Percent>& percent) {
  if (!percent) return "-";
  return std::to_string(percent->low) + (percent->low == percent->high ? "" : "-" + std::to_string(percent->high)) + "%";
}

/// " 87% | 82% |", a cell for each run; one cell when there is none.
template <class Key>
std::string measured(const std::vector<Measured>& runs, std::map<Key, double> Measured::* shares, const Key& key) {
  std::string cells;
  for (const Measured& run : runs) {
    const auto found = (run.*shares).find(key);
    cells += found == (run.*shares).end() ? " - |" : " " + decimal(100 * found->second, 0) + "% |";
  }
  return cells.empty() ? " not measured yet |" : cells;
}

std::string ladder_table(const std::vector<Measured>& runs) {
  std::string devices;
  for (const Measured& run : runs) devices += " " + run.device + " |";
  if (runs.empty()) devices = " measured |";
  std::string text = "| rung | what it removes | 16 heads: predicted |" + devices + " 128 heads: predicted |" + devices + "\n| --- | --- |";
  for (index_t column = 0; column < 2 * (1 + std::max<index_t>(runs.size(), 1)); ++column) text += " ---: |";
  text += "\n";
  const auto rung_at = [&](const std::string& rung, int heads) { return measured(runs, &Measured::shares, {rung, heads}); };
  for (const Rung& rung : ladder())
    text += "| " + titled(rung) + " | " + rung.removes + " | " + predicted(rung.prediction.at_16_heads) + " |" + rung_at(rung.label(), 16) + " " +
            predicted(rung.prediction.at_128_heads) + " |" + rung_at(rung.label(), 128) + "\n";
  if (std::ranges::any_of(runs, [](const Measured& run) { return !run.flashmla.empty(); }))
    text += "| FlashMLA | a yardstick | - |" + measured(runs, &Measured::flashmla, 16) + " - |" +
            measured(runs, &Measured::flashmla, 128) + "\n";
  text += "\n<div class=\"measured\">Share of the roofline of the device itself, batch " + std::to_string(batch) + ", context " +
          std::to_string(context) + ". Predicted for an H200. ";
  if (runs.empty()) text += "No GPU has run these kernels yet.";
  for (const Measured& run : runs) text += "Measured on " + run.circumstances + run.limits + ". ";
  return text + "</div>\n";
}

/// " 165 | 3688 | 111 | 1.2 |": microseconds, GB/s, TFLOP/s, and how often the rung before takes as long.
std::string cells(const Measured& run, const std::string& rung, int heads) {
  const auto found = run.times.find({rung, heads});
  auto before = run.times.end();
  for (const Rung& other : ladder()) {
    if (other.label() == rung) break;
    if (const auto time = run.times.find({other.label(), heads}); time != run.times.end()) before = time;
  }
  if (found == run.times.end()) return " - | - | - | - |";
  const auto number = [&](const char* field) { return found->second.at(field).number(); };
  const bool first = rung == "FlashMLA" || before == run.times.end();
  return " " + decimal(number("microseconds"), 0) + " | " + decimal(number("gb_per_s"), 0) + " | " + decimal(number("tflop_per_s"), 1) + " | " +
         (first ? "-" : decimal(before->second.at("microseconds").number() / number("microseconds"), 1)) + " |";
}

std::string times_table(const std::vector<Measured>& runs, const fs::path& folder) {
  const fs::path file = folder / "ladder_registers.json";  // docs/measure/cuda/registers writes it
  const std::optional<Json> compiled = fs::exists(file) ? std::optional(Json::read(file)) : std::nullopt;
  const auto registers = [&](const std::string& rung) {
    return compiled && compiled->at("registers").has(rung) ? std::to_string(compiled->at("registers").at(rung).integer()) : "-";
  };
  std::string text;
  for (const int heads : {16, 128}) {
    text += "| " + std::to_string(heads) + " heads, rung | registers | shared memory, KB | us | GB/s | TFLOP/s | times the rung before |\n"
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n";
    for (const Measured& run : runs) {
      const std::string device = runs.size() > 1 ? run.device + ": " : "";
      for (const Rung& rung : ladder())
        text += "| " + device + titled(rung) + " | " + registers(rung.label()) + " | " +
                (rung.shared_bytes > 0 ? decimal(static_cast<double>(rung.shared_bytes) / 1e3, 1) : "-") + " |" + cells(run, rung.label(), heads) + "\n";
      if (!run.flashmla.empty()) text += "| " + device + "FlashMLA | - | - |" + cells(run, "FlashMLA", heads) + "\n";
    }
    text += "\n";
  }
  std::string circumstances;
  for (const Measured& run : runs) circumstances += " Measured on " + run.circumstances + run.limits + ".";
  if (runs.empty()) circumstances = " No GPU has run these kernels yet.";
  return text + "<div class=\"measured\">Batch " + std::to_string(batch) + ", context " + std::to_string(context) +
         ". GB/s: of the bytes that must be read and written once, cache, queries and results, whatever a rung reads in truth. A rung's time is that "
         "of all its launches, from 5 on schedule, kernel and combine; FlashMLA's is of kernel and combine, its schedule lies before the clock. The "
         "kernels alone are not measured. Registers: of a thread, as compiled for sm_90a" + (compiled ? " by CUDA " + compiled->at("cuda").text() : "") +
         "; those of rungs 7d to 10 are moved afterwards, 232 to who computes and 40 to who fetches. Shared memory: dynamic, of a block." + circumstances + "</div>\n";
}

// ---- traffic ----

/// Loads from global memory by a rung's own kernel.
long sectors_loaded(const simt::Traffic& traffic) {
  long sectors = 0;
  for (const simt::LineTraffic& line : traffic.lines)
    if (!line.shared && !line.store && line.file != "schedule.cu" && line.file != "combine.cu") sectors += line.access.sectors;
  return sectors;
}

std::string traffic_table(const std::vector<Measured>& runs) {
  constexpr int tma = 90;  // copies by the engine pass by the counter of loads
  std::string text = "| rung | bytes of cache asked for, per token | of these, in sectors fetched | times each byte is read | all sectors loaded | by a GPU's counter |\n"
                     "| --- | ---: | ---: | ---: | ---: | ---: |\n";
  for (const Rung& rung : ladder()) {
    const MlaDecodeOnDevice device(kv::test::traffic_problem());
    Buffer<unsigned char> workspace(rung.workspace_bytes(device.problem(), kv::test::traffic_multiprocessors));
    const simt::Traffic traffic =
        simt::measure_traffic([&] { rung.launch(device.problem(), {workspace.data(), kv::test::traffic_multiprocessors}); });
    const simt::Access latents = traffic.loads_of(device.problem().latents);
    std::set<index_t> counts;  // GPUs of one kind of compiler agree
    for (const Measured& run : runs)
      if (run.sectors.contains(rung.label()) && rung.capability < tma) counts.insert(run.sectors.at(rung.label()));
    std::string counted;
    for (const index_t count : counts) counted += (counted.empty() ? "" : ", ") + std::to_string(count);
    text += "| " + rung.label() + " " + rung.name + " | " +
            decimal(static_cast<double>(latents.bytes) / kv::test::traffic_tokens, 0) + " | " + decimal(100 * latents.used(), 0) + "% | " +
            decimal(static_cast<double>(latents.bytes) / static_cast<double>(latents.unique_bytes), 1) + " | " +
            (rung.capability < tma ? std::to_string(sectors_loaded(traffic)) : "-") + " | " + (counted.empty() ? "-" : counted) + " |\n";
  }
  text += "\n<div class=\"measured\">Counted on the CPU runtime: " + std::to_string(kv::test::traffic_heads) +
          " heads, sequences of 128 and 64 tokens. A row of the cache has 1152 bytes. The second number is the share of the 32-byte sectors that "
          "a warp's request uses; caches are not modelled. The last two numbers are of all loads of the rung's kernel, queries and tables "
          "included, but not of TMA, which that counter does not see.";
  for (const Measured& run : runs)
    if (!run.sectors.empty()) text += " By the counter of: " + run.circumstances + ".";
  return text + "</div>\n";
}

// ---- whole models ----

std::string decode_table(const std::vector<Measured>& runs) {
  std::string text = "| device | sequences | context | step, ms | tokens/s | bytes that it must read, GB | share of the bandwidth's limit |\n"
                     "| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n";
  std::string circumstances, ids = "token ids in and out of the host in every step";
  for (const Measured& run : runs) {
    const Json rows = run.report.at("benchmark").at("decode");
    for (index_t i = 0; i < rows.length(); ++i) {
      const Json row = rows.at(i);
      if (row.has("steps_together")) ids = "the host reads tokens every " + std::to_string(row.at("steps_together").integer()) + " steps";
      if (!row.has("floor_share")) continue;
      text += "| " + run.device + " | " + std::to_string(row.at("batch").integer()) + " | " + std::to_string(row.at("context").integer()) + " | " +
              decimal(row.at("milliseconds_per_step").number(), 2) + " | " + decimal(row.at("tokens_per_s").number(), 0) + " | " +
              decimal(row.at("touched_bytes").number() / 1e9, 1) + " | " + decimal(100 * row.at("floor_share").number(), 0) + "% |\n";
    }
    circumstances += " Measured on " + run.circumstances + ".";
  }
  if (runs.empty()) circumstances = " No GPU has run it yet.";
  return text + "\n<div class=\"measured\">A model of DeepSeek-V2-Lite's shapes with random bf16 weights, stage cuda-absorbed, " + ids +
         ". Bytes: of the experts those that are chosen when all are equally likely." + circumstances + "</div>\n";
}

void write(const fs::path& file, const std::string& text) {
  std::ofstream stream(file);
  if (!(stream << text) || !stream.flush()) throw Error(file.string() + ": cannot be written");
}

/// "ladder_times_h200.svg"
void write_figures(const fs::path& folder, const Measured& run) {
  std::string suffix = "_" + run.device + ".svg";
  std::ranges::transform(suffix, suffix.begin(), [](unsigned char c) { return std::tolower(c); });
  const std::string note = "Batch " + std::to_string(batch) + ", context " + std::to_string(context) + ". " + run.circumstances + ".";
  write(folder / ("ladder_times" + suffix), svg(book::ladder_times(run.report), note));
  write(folder / ("ladder_roofline" + suffix), svg(book::ladder_roofline(run.report), note));
}

}  // namespace

int main(int count, char** words) {
  if (count != 2) {
    std::cerr << "usage: ladder_tables FOLDER\n";
    return 2;
  }
  try {
    const fs::path folder = words[1];
    const std::vector<Measured> runs = measured_on_gpus(folder);
    write(folder / "ladder.md", ladder_table(runs));
    write(folder / "ladder_times.md", times_table(runs, folder));
    write(folder / "ladder_traffic.md", traffic_table(runs));
    write(folder / "gpu_decode.md", decode_table(runs));
    for (const Measured& run : runs) write_figures(folder, run);
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "ladder_tables: error: " << error.what() << "\n";
    return 1;
  }
}
