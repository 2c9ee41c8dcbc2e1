#include "tests/bench/kernel_report.hpp"

#include <algorithm>
#include <fstream>

#include "common/text/table.hpp"
#include "common/files/error.hpp"
#include "common/files/json.hpp"
#include "common/tensor/parallel.hpp"
#include "docs/measure/report.hpp"

namespace kv::bench {
namespace {

using book::MarkdownTable;

const KernelResult& find(const std::vector<KernelResult>& results, const std::string& name) {
  const auto found = std::ranges::find(results, name, &KernelResult::name);
  if (found == results.end()) throw Error("kernel_bench: the book needs '" + name + "': do not give --only");
  return *found;
}

std::string percent(double share) { return decimal(100 * share, 0) + "%"; }

/// "74 (91%)": GFLOP/s and the share of the limit.
std::string rate(const KernelResult& result) {
  return decimal(result.operations / result.seconds * 1e-9, 0) + " (" + percent(result.share) + ")";
}

MarkdownTable linear_table(const std::vector<KernelResult>& results) {
  MarkdownTable table{{"rows", "f32", "bf16", "f16", "e4m3", "int8"}};
  for (const char* rows : {"1", "2", "4", "8", "14", "24", "48", "128", "512"}) {
    table.push_back({rows});
    for (const char* format : {"f32", "bf16", "f16", "f8_e4m3", "i8"})
      table.back().push_back(rate(find(results, std::string("linear ") + format + " rows " + rows)));
  }
  return table;
}

MarkdownTable attention_table(const std::vector<KernelResult>& results) {
  MarkdownTable table{{"work", "GFLOP/s", "GB/s", "of the limit"}};
  for (const KernelResult& result : results)
    if (result.name.starts_with("dot_rows") || result.name.starts_with("add_weighted_rows") || result.name.starts_with("attention"))
      table.push_back({"`" + result.name + "`", decimal(result.operations / result.seconds * 1e-9, 1),
                       decimal(result.bytes / result.seconds * 1e-9, 1), percent(result.share)});
  return table;
}

/// The median over the rounds of a / b: the two stood side by side, and a slow minute is in both.
double ratio(const KernelResult& a, const KernelResult& b) {
  std::vector<double> ratios;
  for (index_t i = 0; i < a.seconds_of_rounds.size(); ++i) ratios.push_back(a.seconds_of_rounds[i] / b.seconds_of_rounds[i]);
  std::ranges::sort(ratios);
  return ratios[ratios.size() / 2];
}

/// Our kernels, and the same work without any order to keep. Where rows are many the other one is a library's, if it was there.
MarkdownTable order_table(const std::vector<KernelResult>& results) {
  MarkdownTable table{{"work", "fixed order, us", "any order, us", "fixed / any"}};
  for (const auto& [ours, theirs] : {std::pair{"linear f32 rows 1", "unordered f32 rows 1"},
                                     std::pair{"linear bf16 rows 1", "unordered bf16 rows 1"},
                                     std::pair{"dot_rows 1 x 8192 x 128", "unordered dot_rows 1 x 8192 x 128"},
                                     std::pair{"linear f32 rows 48", "library f32 rows 48"},
                                     std::pair{"linear f32 rows 512", "library f32 rows 512"},
                                     std::pair{"dot_rows 16 x 8192 x 576", "library dot_rows 16 x 8192 x 576"},
                                     std::pair{"add_weighted_rows 16 x 8192 x 512", "library add_weighted_rows 16 x 8192 x 512"}}) {
    if (std::ranges::find(results, theirs, &KernelResult::name) == results.end()) continue;
    const KernelResult &fixed = find(results, ours), &any = find(results, theirs);
    table.push_back({ours, decimal(fixed.seconds * 1e6, 0), decimal(any.seconds * 1e6, 0), decimal(ratio(fixed, any), 2)});
  }
  return table;
}

}  // namespace

std::string json(const MachineLimits& limits, const std::vector<KernelResult>& results) {
  std::vector<JsonObject> rows;
  for (const KernelResult& result : results)
    rows.emplace_back()
        .set("name", result.name)
        .set("us", result.seconds * 1e6)
        .set("gflops", result.operations / result.seconds * 1e-9)
        .set("gb_per_s", result.bytes / result.seconds * 1e-9)
        .set("share_of_limit", result.share);
  JsonObject object;
  object.set("instruction_set", limits.instruction_set)
      .set("threads", threads())
      .set("fma_gflops", limits.flop_per_s * 1e-9)
      .set("read_gb_per_s", limits.bytes_per_s * 1e-9)
      .set("kernels", rows);
  return object.text();
}

void write_book(const std::filesystem::path& folder, const std::string& commit, const MachineLimits& limits,
                const std::vector<KernelResult>& results) {
  const std::string machine = limits.instruction_set + ", FMA peak " + decimal(limits.flop_per_s * 1e-9, 1) +
                              " GFLOP/s, read " + decimal(limits.bytes_per_s * 1e-9, 1) + " GB/s (medians of the same run)";
  const book::Circumstances circumstances = book::circumstances(commit, machine);
  const book::Report report(folder, circumstances);
  report.table("kernels_linear", linear_table(results),
               "Linear layers of 2,048 inputs and 1,408 outputs: GFLOP/s and the share of the limit, which is the later of "
               "the FMA peak and the bandwidth for the weights. Medians.");
  report.table("kernels_attention", attention_table(results), "One block of work each, rows from memory. Medians.");
  report.table("kernels_order", order_table(results), "Interleaved in one run; medians, the last column of the ratios round by round.");
  const auto path = folder / "kernels.json";
  std::ofstream file(path);
  JsonObject object;
  object.set("date", circumstances.date).set("device", circumstances.device).set("commit", commit);
  if (!(file << "{\"circumstances\": " << object.text() << ", \"results\": " << json(limits, results) << "}\n") ||
      !file.flush())
    throw Error(path.string() + ": cannot be written");
}

}  // namespace kv::bench
