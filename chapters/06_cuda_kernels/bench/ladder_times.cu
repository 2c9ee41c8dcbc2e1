#include <algorithm>
#include <memory>
#include <numeric>
#include <random>

#include "chapters/06_cuda_kernels/bench/agreement.hpp"
#include "chapters/06_cuda_kernels/bench/bench.hpp"
#include "chapters/06_cuda_kernels/bench/flashmla.hpp"
#include "chapters/06_cuda_kernels/bench/random.hpp"
#include "chapters/06_cuda_kernels/bench/timing.hpp"
#include "chapters/06_cuda_kernels/ladder/ladder.hpp"

namespace kv::cuda {
namespace {

/// A problem with random numbers, and its cache in pages that lie in random order.
struct RandomProblem {
  Buffer<bf16> queries, latents, output;
  Buffer<int> lengths, table;
  Buffer<float> lse;
  MlaDecode problem;

  RandomProblem(const DecodeShape& shape, unsigned seed) {
    const int table_width = pages_of(shape.context), pages = shape.batch * table_width;
    const std::size_t rows = std::size_t(shape.batch) * shape.heads;
    queries = Buffer<bf16>(rows * latent_width), output = Buffer<bf16>(rows * value_width);
    latents = Buffer<bf16>(std::size_t(pages) * page_tokens * latent_width), lse = Buffer<float>(rows);
    fill_random(queries.data(), queries.size(), 1.0f, 2 * seed, nullptr);
    fill_random(latents.data(), latents.size(), 1.0f, 2 * seed + 1, nullptr);
    std::vector<int> order(pages);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), std::mt19937(seed));
    table = Buffer<int>(std::span<const int>(order));
    lengths = Buffer<int>(std::span<const int>(shape.lengths()));
    check(cudaDeviceSynchronize(), "RandomProblem");
    problem = {.queries = queries.data(), .latents = latents.data(), .lengths = lengths.data(), .block_table = table.data(),
               .output = output.data(), .lse = lse.data(), .batch = shape.batch, .heads = shape.heads, .pages = pages,
               .table_width = table_width, .scale = 1.0f / std::sqrt(192.0f)};
    require_fit(problem);
  }

  Decoded results() const { return {output.download(), lse.download()}; }
  /// Makes all results NaN, so that one that is not written shows. Waits.
  void poison() {
    check(cudaMemset(output.data(), 0xff, output.size() * sizeof(bf16)), "poison");
    check(cudaMemset(lse.data(), 0xff, lse.size() * sizeof(float)), "poison");
    check(cudaDeviceSynchronize(), "poison");
  }
};

double stored_tokens(const DecodeShape& shape) {
  const std::vector<int> lengths = shape.lengths();
  return std::accumulate(lengths.begin(), lengths.end(), 0.0);
}

/// Bytes that must be read and written: the cache once, queries, results.
double least_bytes(const DecodeShape& shape) {
  const double rows = static_cast<double>(shape.batch) * shape.heads;
  return stored_tokens(shape) * latent_width * 2.0 + rows * (latent_width + value_width) * 2.0 + rows * 4.0;
}

double operations(const DecodeShape& shape) { return 2.0 * shape.heads * stored_tokens(shape) * (latent_width + value_width); }

}  // namespace

std::vector<int> DecodeShape::lengths() const {
  std::vector<int> result(batch, context);
  for (int b = 0; b + 1 < batch; ++b) result[b] = shortest + int(static_cast<long long>(context - shortest) * b / (batch - 1));
  return result;
}

std::vector<DecodeShape> full_shapes() {
  return {{128, 4096, 16}, {128, 4096, 128}, {1, 32768, 16}, {32, 4096, 16}, {128, 8192, 16, 1}, {128, 8192, 128, 1}};
}
std::vector<DecodeShape> tiny_shapes() { return {{2, 100, 16}, {3, 130, 16, 1}}; }

// [measure]
LadderTimes measure_ladder(const DecodeShape& shape, const Ceilings& ceilings, const BenchSizes& sizes) {
  const DeviceProperties& device = device_properties();
  const double bytes = least_bytes(shape), work = operations(shape);
  const double roofline = std::max(bytes / ceilings.read_bytes_per_s, work / ceilings.matrix_flop_per_s()) * 1e6;
  const int copies = device_is_cpu() ? 1 : copies_beyond(device.l2_bytes, static_cast<std::size_t>(bytes));
  std::vector<std::unique_ptr<RandomProblem>> problems;
  for (int copy = 0; copy < copies; ++copy) problems.push_back(std::make_unique<RandomProblem>(shape, static_cast<unsigned>(copy + 1)));

  Stream stream;
  const auto measure = [&](const char* name, const std::function<void(const MlaDecode&)>& launch) {
    const double microseconds = median_microseconds(stream, sizes.rounds, copies, [&](int copy) { launch(problems[copy]->problem); });
    return KernelTime{.name = name, .microseconds = microseconds, .bytes_per_s = bytes / microseconds * 1e6,
                      .flop_per_s = work / microseconds * 1e6, .roofline_share = roofline / microseconds};
  };

  LadderTimes times;
  RandomProblem& first = *problems[0];
  std::optional<Decoded> expected;  // by the last rung that a GPU has run before
  std::vector<Decoded> results;
  for (const Rung& rung : ladder()) {
    if (rung.untried && !sizes.untried_rungs) continue;
    if (const std::string reason = why_not(rung, device); !reason.empty()) {
      times.rungs.push_back({rung.number, rung.letter, {.name = rung.name, .skipped = reason}});
      continue;
    }
    Buffer<std::byte> workspace(rung.workspace_bytes(first.problem, device.multiprocessors));
    first.poison();
    times.rungs.push_back({rung.number, rung.letter, measure(rung.name, [&](const MlaDecode& problem) {
      rung.launch(problem, {workspace.data(), device.multiprocessors, stream.get()});
    })});
    results.push_back(first.results());
    if (!rung.untried) expected = results.back();
  }
  auto result = results.begin();
  for (RungTime& rung : times.rungs)
    if (rung.kernel.skipped.empty()) require_agreement(rung.kernel.name, *result++, *expected);
  if (!has_flashmla()) return times;

  times.flashmla = {.commit = flashmla_commit(), .kernel = {.name = "FlashMLA"}};
  KernelTime& yardstick = times.flashmla->kernel;
  if (!device.has_wgmma()) {
    yardstick.skipped = "FlashMLA's dense decode needs compute capability 9.0";
    return times;
  }
  FlashMlaDecode flashmla(first.problem, device.multiprocessors);
  const auto launch = [&](const MlaDecode& problem) { flashmla.queue(problem, stream.get()); };
  first.poison();
  launch(first.problem);
  stream.synchronize();
  require_agreement(yardstick.name, first.results(), *expected);
  yardstick = measure("FlashMLA", launch);
  return times;
}
// [measure]

}  // namespace kv::cuda
