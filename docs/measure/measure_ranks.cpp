#include <algorithm>
#include <cmath>
#include <fstream>
#include <future>
#include <thread>

#include "chapters/10_tensor_parallel/rank_group.hpp"
#include "chapters/10_tensor_parallel/thread_communicator.hpp"
#include "chapters/studies/rank_cost.hpp"
#include "common/model/metrics.hpp"
#include "common/tensor/parallel.hpp"
#include "common/text/table.hpp"
#include "docs/measure/measurements.hpp"

namespace kv::book {
namespace {

const std::filesystem::path data = KV_DATA;

const std::vector<std::pair<const char*, Cut>> cuts{
    {"parallel", Cut::outputs}, {"parallel-reduce", Cut::sums}, {"parallel-experts", Cut::experts}};

std::string gigabytes(double bytes) { return decimal(bytes / 1e9, 1); }

/// Bytes that all ranks together send for a token and a layer, measured on the shipped models.
void measure_sent(Report& report) {
  constexpr index_t sequences = 4, prompt = 64;
  MarkdownTable table{{"model", "ranks", "`parallel`", "`parallel-reduce`", "`parallel-experts`"}};
  std::vector<JsonObject> rows;
  for (const char* name : {"tiny-gqa", "tiny-mla"}) {
    const Checkpoint checkpoint(data / name);
    const index_t layers = model_sizes(checkpoint.config()).layers, V = model_sizes(checkpoint.config()).vocabulary;
    for (const index_t ranks : {2, 4}) {
      std::vector<std::string> line{name, std::to_string(ranks)};
      for (const auto& [stage, cut] : cuts) {
        StageOptions options = find_stage(stage).options;
        options.set("ranks", std::to_string(ranks));
        const auto model = make_on_ranks(cut, checkpoint, {.sequences = sequences, .capacity = prompt}, options);
        std::vector<Token> tokens;
        Batch batch;
        for (index_t b = 0; b < sequences; ++b) {
          batch.push_back({b, tokens.size(), prompt, 0});
          for (index_t t = 0; t < prompt; ++t) tokens.push_back(static_cast<Token>((b * 977 + t * 31) % V));
        }
        model->logits(tokens, batch, {});  // no logits: what layers send, and nothing else
        double sent = 0.0;
        for (const RankReport& rank : rank_reports(*model)) sent += static_cast<double>(rank.sent.total() - rank.sent.broadcast);
        sent /= static_cast<double>(tokens.size() * layers);
        line.push_back(grouped(static_cast<std::size_t>(std::lround(sent))));
        JsonObject row;
        row.set("model", name).set("ranks", ranks).set("stage", stage).set("bytes_per_token_and_layer", sent);
        rows.push_back(row);
      }
      table.push_back(line);
    }
  }
  report.table("ranks_sent", table, "Bytes that all ranks together send for one token and one layer, f32, counted by the communicator over "
               "4 prompts of 64 tokens.");
  report.numbers("ranks_sent", rows);
}

/// How far the logits of `parallel-reduce` are from those of one rank, for each number of ranks.
void measure_spread(const Laboratory& laboratory, Report& report) {
  MarkdownTable table{{"ranks", "logits that differ from `uncached`", "largest difference, relative to the largest logit", "`parallel`: logits that differ"}};
  std::vector<JsonObject> rows;
  std::vector<Token> tokens = laboratory.tokens(128);
  const auto logits = [&](std::string_view name, index_t ranks) {
    Stage stage = find_stage(name);
    if (stage.options.has("ranks")) stage.options.set("ranks", std::to_string(ranks));
    return make_decoder(laboratory.checkpoint(), stage, {.sequences = 1, .capacity = tokens.size()}).logits(0, tokens);
  };
  const Tensor<2> expected = logits("uncached", 1);
  const auto difference = [&](const Tensor<2>& found) {
    double top = 0.0, off = 0.0;
    index_t count = 0;
    for (index_t i = 0; i < expected.size(); ++i) {
      top = std::max(top, std::abs(static_cast<double>(expected.data()[i])));
      off = std::max(off, std::abs(static_cast<double>(expected.data()[i]) - found.data()[i]));
      count += expected.data()[i] != found.data()[i];
    }
    return std::pair(count, off / top);
  };
  for (const index_t ranks : {1, 2, 3, 4, 6}) {
    const auto [count, off] = difference(logits("parallel-reduce", ranks));
    const index_t exact = difference(logits("parallel", ranks)).first;
    char text[32];
    std::snprintf(text, sizeof text, "%.1e", off);
    table.push_back({std::to_string(ranks), decimal(100.0 * static_cast<double>(count) / static_cast<double>(expected.size()), 1) + "%",
                     count == 0 ? "0" : text, std::to_string(exact)});
    JsonObject row;
    row.set("ranks", ranks).set("different", count).set("largest", off).set("different_parallel", exact);
    rows.push_back(row);
  }
  report.table("ranks_spread", table, "A text of 128 random tokens, all logits.");
  report.numbers("ranks_spread", rows);
}

/// DeepSeek-V3 on eight devices, on paper.
void count_devices(Report& report) {
  const Json config = Json::read(data / "configs" / "deepseek-v3" / "config.json");
  // H200: 4.8 TB/s, 1,979 TFLOP/s in fp8 without sparsity, NVLink 900 GB/s in both directions together. An exchange: assumed.
  constexpr DeviceRates h200{.memory_bytes_per_s = 4.8e12, .flop_per_s = 1979e12, .link_bytes_per_s = 450e9, .seconds_per_exchange = 10e-6};
  MarkdownTable table{{"B", "arrangement", "weights GB", "cache GB", "read GB", "sent MB", "reading ms", "sending ms", "waiting ms", "step ms", "tokens/s"}};
  std::vector<JsonObject> rows;
  for (const index_t sequences : {1, 64, 256})
    for (const auto& [stage, cut] : cuts) {
      const RankStep step{.ranks = 8, .sequences = sequences, .stored = 4096, .weight_bytes = 1.0, .cache_bytes = 2.0, .sent_bytes = 2.0, .latents = true};
      const RankCost cost = rank_cost(config, cut, step);
      const double seconds = step_seconds(cost, h200);
      table.push_back({std::to_string(sequences), std::string("`") + stage + "`", gigabytes(cost.weights), decimal(cost.cache / 1e9, 2), decimal(cost.read / 1e9, 2),
                       decimal(cost.sent / 1e6, 1), decimal(1e3 * std::max(cost.read / h200.memory_bytes_per_s, cost.flop / h200.flop_per_s), 2),
                       decimal(1e3 * cost.sent / h200.link_bytes_per_s, 2), decimal(1e3 * cost.exchanges * h200.seconds_per_exchange, 2),
                       decimal(1e3 * seconds, 2), decimal(static_cast<double>(sequences) / seconds, 0)});
      JsonObject row;
      row.set("sequences", sequences).set("stage", stage).set("weights", cost.weights).set("cache", cost.cache).set("read", cost.read);
      row.set("flop", cost.flop).set("sent", cost.sent).set("exchanges", cost.exchanges).set("seconds", seconds);
      rows.push_back(row);
    }
  report.with_model("DeepSeek-V3: config.json alone").table("ranks_devices", table, "Counted, not measured: DeepSeek-V3 on 8 devices like NVIDIA's H200 (datasheet: 4.8 TB/s, 1,979 TFLOP/s in fp8 without "
               "sparsity, 900 GB/s of NVLink, half of it each way), 10 us for each exchange assumed. fp8 weights, bf16 latents and messages, 4,096 tokens "
               "in each of B sequences, one new token for each. Weights, cache, read and sent: of the device that has most.");
  report.numbers("ranks_devices", rows);
}

/// What this machine can do: of the thread that measures, or of two at once.
/// @param bytes that each rank reads in a step: the rate is that of as many, up to a GB: they may or may not stay in a cache
DeviceRates local_rates(index_t ranks, double bytes) {
  constexpr index_t inputs = 2048, most_outputs = 16384, rounds = 20;
  constexpr double most_bytes = 1 << 30;  // no cache holds as many
  const index_t all_outputs = static_cast<index_t>(std::min(bytes, most_bytes)) / (inputs * 2) + 1;
  const index_t matrices = (all_outputs + most_outputs - 1) / most_outputs, outputs = all_outputs / matrices;
  const std::vector<std::uint16_t> weights(inputs * outputs, 0x3c00);
  const MatrixView view{weights.data(), DType::bf16, outputs, inputs, inputs, 1};
  const auto ends = thread_communicators(ranks);
  std::vector<double> read(ranks), exchange(ranks), send(ranks);
  std::vector<std::thread> threads;
  for (index_t r = 0; r < ranks; ++r)
    threads.emplace_back([&, r] {
      ThreadShare share(1);
      const ThreadShare::Use use(share);
      std::vector<Linear> layers;
      for (index_t i = 0; i < matrices; ++i) layers.emplace_back(LinearView(view));
      const Tensor<2> x = zeros<2>({1, inputs});
      std::vector<float> all(1 << 22), own(all.size() / ranks);
      const std::vector<index_t> counts(ranks, own.size());
      const auto timed = [&](auto step) {
        std::vector<double> seconds;
        for (index_t i = 0; i < rounds; ++i) {
          ends[r]->barrier();
          const Stopwatch watch;
          step();
          seconds.push_back(watch.milliseconds() / 1000);
        }
        std::ranges::nth_element(seconds, seconds.begin() + rounds / 2);
        return seconds[rounds / 2];
      };
      read[r] = static_cast<double>(matrices * inputs * outputs * 2) / timed([&] { for (const Linear& layer : layers) layer(x); });
      exchange[r] = timed([&] { for (int i = 0; i < 100; ++i) ends[r]->barrier(); }) / 100;
      send[r] = static_cast<double>(own.size() * sizeof(float) * std::max<index_t>(1, ranks - 1)) / timed([&] { ends[r]->all_gather(own, counts, all); });
    });
  for (std::thread& thread : threads) thread.join();
  return {.memory_bytes_per_s = *std::ranges::min_element(read), .flop_per_s = 1e18, .link_bytes_per_s = *std::ranges::min_element(send),
          .seconds_per_exchange = *std::ranges::max_element(exchange)};
}

/// The same formula beside runs on this machine, one thread for each rank.
void measure_local(const Laboratory& laboratory, Report& report) {
  const Json& config = laboratory.checkpoint().config();
  MarkdownTable table{{"stage", "ranks", "counted ms", "measured ms", "counted / measured"}};
  std::vector<JsonObject> rows;
  const index_t before = threads(), prompt = 64, steps = 32;
  for (const auto& [name, cut] : cuts)
    for (const index_t ranks : {1, 2}) {
      set_threads(ranks);
      Stage stage = find_stage(name);
      stage.options.set("ranks", std::to_string(ranks));
      Decoder decoder = make_decoder(laboratory.checkpoint(), stage, {.sequences = ranks, .capacity = prompt + steps});
      const std::vector<Token> tokens = laboratory.tokens(prompt + steps);
      std::vector<double> seconds;
      for (int round = 0; round < 3; ++round) {  // the first one loads experts
        std::vector<NewTokens> prompts;
        for (index_t r = 0; r < ranks; ++r) {
          decoder.truncate(r, 0);
          prompts.push_back({r, {tokens.begin(), tokens.begin() + prompt}});
        }
        decoder.last_logits(prompts);
        seconds.clear();
        for (index_t t = prompt; t < prompt + steps; ++t) {
          std::vector<NewTokens> next;
          for (index_t r = 0; r < ranks; ++r) next.push_back({r, {tokens[t]}});
          const Stopwatch watch;
          decoder.last_logits(next);
          seconds.push_back(watch.milliseconds() / 1000);
        }
      }
      std::ranges::nth_element(seconds, seconds.begin() + steps / 2);
      const double measured = seconds[steps / 2];
      const RankCost cost = rank_cost(config, cut, {.ranks = ranks, .sequences = ranks, .stored = prompt + steps / 2});
      const double counted = step_seconds(cost, local_rates(ranks, cost.read));
      table.push_back({std::string("`") + name + "`", std::to_string(ranks), decimal(1e3 * counted, 3), decimal(1e3 * measured, 3), decimal(counted / measured, 2)});
      JsonObject row;
      row.set("stage", name).set("ranks", ranks).set("counted", counted).set("measured", measured);
      rows.push_back(row);
    }
  set_threads(before);
  report.table("ranks_local", table, "One decode step for as many sequences as ranks, behind 64 to 96 tokens each, median of 32, one thread for each rank. Counted: with this machine's rates, measured "
               "just after on matrices of as many bytes as the step reads, on empty exchanges and on a large one.");
  report.numbers("ranks_local", rows);
}

/// Bytes in the memory of all processes of a program; what several of them map is counted once (PSS).
double memory_of_all(const std::string& program) {
  double kilobytes = 0.0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    std::ifstream command(entry.path() / "cmdline"), memory(entry.path() / "smaps_rollup");
    std::string word;
    if (!std::getline(command, word, '\0') || word != program) continue;
    while (memory >> word && word != "Pss:") continue;
    if (double own = 0.0; memory >> own) kilobytes += own;
  }
  return 1024 * kilobytes;
}

/// The most that the ranks of a job have in memory together while it loads a model, feeds it and draws some tokens.
double most_memory(const std::filesystem::path& model, const std::string& stage, index_t ranks) {
  const std::string program = std::filesystem::canonical("/proc/self/exe").parent_path() / "kvbook-mpi";
  const std::string command = "mpirun --quiet -n " + std::to_string(ranks) + " " + program + " bench --model " + model.string() + " --stage " +
                              stage + " --threads 2 --prompt-tokens 128 --new-tokens 8 --json >/dev/null";
  auto job = std::async(std::launch::async, [&] { return std::system(command.c_str()); });
  double most = 0.0;
  while (job.wait_for(std::chrono::milliseconds(20)) != std::future_status::ready) most = std::max(most, memory_of_all(program));
  if (job.get() != 0) throw Error("a job on " + std::to_string(ranks) + " ranks has failed: " + command);
  return most;
}

/// Two ranks together beside one, and what the formula says of their weights.
void measure_memory(const Laboratory& laboratory, Report& report) {
  for (const char* name : {"OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "OMPI_MCA_rmaps_base_oversubscribe"}) ::setenv(name, "1", 1);
  const Checkpoint& checkpoint = laboratory.checkpoint();
  MarkdownTable table{{"stage", "one rank, GB", "two ranks together, GB", "of one", "weights of two, of one: counted"}};
  std::vector<JsonObject> rows;
  for (const auto& [name, cut] : cuts) {
    const double one = most_memory(checkpoint.directory(), name, 1), two = most_memory(checkpoint.directory(), name, 2);
    const auto weights = [&, cut](index_t ranks) { return rank_cost(checkpoint.config(), cut, {.ranks = ranks, .sequences = 1, .stored = 0}).weights; };
    const double counted = 2 * weights(2) / weights(1);
    table.push_back({std::string("`") + name + "`", decimal(one / 1e9, 2), decimal(two / 1e9, 2), decimal(two / one, 3), decimal(counted, 3)});
    JsonObject row;
    row.set("stage", name).set("one", one).set("two", two).set("counted", counted);
    rows.push_back(row);
  }
  report.table("ranks_memory", table, "Ranks are MPI processes; the largest sum of their PSS, looked at every 20 ms from the start to the last of some tokens "
               "behind prompts that reach nearly all experts.");
  report.numbers("ranks_memory", rows);
}

}  // namespace

void measure_ranks(const Laboratory& laboratory, Report& report) {
  measure_sent(report);
  measure_spread(laboratory, report);
  count_devices(report);
}

void measure_ranks_local(const Laboratory& laboratory, Report& report) { measure_local(laboratory, report); }
void measure_ranks_memory(const Laboratory& laboratory, Report& report) { measure_memory(laboratory, report); }

}  // namespace kv::book
