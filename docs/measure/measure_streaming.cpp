#include <fstream>

#include <unistd.h>

#include "common/model/loss.hpp"
#include "common/model/metrics.hpp"
#include "common/text/table.hpp"
#include "common/text/tokenizer.hpp"
#include "docs/measure/measurements.hpp"

namespace kv::book {
namespace {

constexpr index_t text_tokens = 50000, timed_tokens = 1000, chunk = 128, stretch = 500;
constexpr index_t budget = 256, usual_sinks = 4, full_contexts = 4;

/// A text fed through a stage from its first token on.
struct Passage {
  std::string stage;
  std::vector<double> losses;  ///< of every prediction
  StateBytes early, late;      ///< when the window has just become full, and at the end
  std::size_t early_memory = 0, late_memory = 0;  ///< of the whole program, at the same moments
  std::vector<double> first_ms, last_ms;  ///< of each of the first timed tokens from then on, and of the last ones

  /// Of predictions first ... end-1.
  double loss(index_t first, index_t end) const {
    Loss sum;
    for (index_t i = first; i < std::min<index_t>(end, losses.size()); ++i) sum += {1, losses[i]};
    return sum.mean();
  }
};

std::vector<Token> held_out_stream(const Checkpoint& checkpoint) {
  const std::filesystem::path file = checkpoint.directory().parent_path() / "held_out" / "stream.txt";
  std::ifstream stream(file);
  const std::string text{std::istreambuf_iterator<char>(stream), {}};
  return Tokenizer(checkpoint.directory() / "tokenizer.json").encode(text);
}

/// What is said does not matter to a model that was never trained.
std::vector<Token> random_ids(index_t vocabulary) {
  std::vector<Token> tokens(text_tokens + 1);
  for (index_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<Token>(i * i % vocabulary);
  return tokens;
}

Stage streaming(index_t sinks) {
  Stage stage = find_stage("streaming");
  stage.options.set("budget", std::to_string(budget));
  stage.options.set("sinks", std::to_string(sinks));
  return stage;
}

/// Bytes that the program holds in memory (Linux; 0 elsewhere).
std::size_t resident_bytes() {
  std::size_t pages = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> pages >> resident;
  return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

/// A checkpoint of Mistral's shape with random weights: both layers look back on 512 tokens, of 65,536.
class RandomMistral {
 public:
  explicit RandomMistral(const std::filesystem::path& root)
      : directory_(std::filesystem::temp_directory_path() / ("kvbook-mistral-" + std::to_string(getpid()))) {
    const std::filesystem::path golden = root / "tests/golden/models/mistral-window";
    std::filesystem::create_directory(directory_);
    std::filesystem::copy(golden / "model.safetensors", directory_);
    std::ifstream stream(golden / "config.json");
    std::string config{std::istreambuf_iterator<char>(stream), {}};
    replace(config, "\"sliding_window\": 16", "\"sliding_window\": 512");
    replace(config, "\"max_position_embeddings\": 512", "\"max_position_embeddings\": 65536");
    std::ofstream(directory_ / "config.json") << config;
  }
  ~RandomMistral() { std::filesystem::remove_all(directory_); }
  Checkpoint open() const { return Checkpoint(directory_); }

 private:
  static void replace(std::string& text, const std::string& from, const std::string& to) {
    const std::size_t at = text.find(from);
    if (at == text.npos) throw std::logic_error("no " + from);
    text.replace(at, from.size(), to);
  }

  std::filesystem::path directory_;
};

/// Feeds `count` tokens and predicts the next one each time: those that are timed one by one, the others in chunks, which
/// changes no bit.
/// @param full when the window is
Passage feed(const Checkpoint& checkpoint, const Stage& stage, const std::string& name, const std::vector<Token>& tokens,
             index_t count, index_t full = budget) {
  Decoder decoder = make_decoder(checkpoint, stage, {.sequences = 1, .capacity = count});
  Passage passage{.stage = name, .losses = {}, .early = {}, .late = {}, .first_ms = {}, .last_ms = {}};
  const index_t first_timed = full, last_timed = count - timed_tokens;
  for (index_t at = 0; at < count;) {
    auto* const timed = at >= last_timed                                       ? &passage.last_ms
                        : at >= first_timed && at < first_timed + timed_tokens ? &passage.first_ms
                                                                               : nullptr;
    if (at == first_timed) {
      passage.early = decoder.state_bytes();
      passage.early_memory = resident_bytes();
    }
    const index_t next_timed = at < first_timed ? first_timed : last_timed;
    const index_t fed = timed ? 1 : std::min(chunk, next_timed - at);
    const auto begin = tokens.begin() + static_cast<std::ptrdiff_t>(at);
    const Stopwatch watch;
    const Tensor<2> logits = decoder.logits(0, {begin, begin + static_cast<std::ptrdiff_t>(fed)});
    if (timed) timed->push_back(watch.milliseconds());
    for (index_t t = 0; t < fed; ++t)
      passage.losses.push_back(negative_log_likelihood(row(logits, t), tokens[at + t + 1]));
    at += fed;
  }
  passage.late = decoder.state_bytes();
  passage.late_memory = resident_bytes();
  return passage;
}

Series loss_curve(const Passage& passage, index_t count) {
  Series series{passage.stage, {}};
  for (index_t first = 0; first < count; first += stretch)
    series.points.push_back({static_cast<double>(first + stretch / 2), passage.loss(first, first + stretch)});
  return series;
}

double rate(const std::vector<double>& milliseconds) { return 1000.0 / median(milliseconds); }

std::vector<std::string> rate_row(const std::string& model, const Passage& passage) {
  return {model, passage.stage, grouped(passage.early.allocated), grouped(passage.late.allocated),
          decimal(static_cast<double>(passage.early_memory) / 1e6, 1), decimal(static_cast<double>(passage.late_memory) / 1e6, 1),
          decimal(rate(passage.first_ms), 0), decimal(rate(passage.last_ms), 0), decimal(rate(passage.last_ms) / rate(passage.first_ms), 2)};
}

JsonObject numbers_of(const std::string& model, const Passage& passage) {
  return JsonObject().set("model", model).set("cache", passage.stage).set("tokens", passage.losses.size())
      .set("loss", passage.loss(0, passage.losses.size())).set("early_state_bytes", passage.early.allocated)
      .set("late_state_bytes", passage.late.allocated).set("early_resident_bytes", passage.early_memory)
      .set("late_resident_bytes", passage.late_memory).set("first_tokens_per_s", rate(passage.first_ms))
      .set("last_tokens_per_s", rate(passage.last_ms));
}

}  // namespace

void measure_streaming(const Laboratory& laboratory, Report& report) {
  const std::filesystem::path data = laboratory.checkpoint().directory().parent_path();
  MarkdownTable losses{{"model, context", "cache", "loss within the context", "the next three contexts", "50,000 tokens"}};
  MarkdownTable rates{{"model", "cache", "state bytes, window just full", "at the end", "program MB, window just full", "at the end",
                       "tokens/s, first 1,000", "last 1,000", "last over first"}};
  std::vector<JsonObject> numbers;
  for (const std::string model : {"tiny-gqa", "tiny-mla"}) {
    const Checkpoint checkpoint(data / model);
    const index_t context = model_sizes(checkpoint.config()).context, shown = full_contexts * context;
    const std::vector<Token> tokens = held_out_stream(checkpoint);
    Plot plot{.title = model + ": loss over position", .x_label = "tokens before", .y_label = "nats per token", .series = {}};
    const std::string full = model == "tiny-gqa" ? "preallocated" : "absorbed";
    for (const Passage& passage :
         {feed(checkpoint, find_stage(full), "full cache", tokens, shown),
          feed(checkpoint, streaming(0), "window of 256", tokens, text_tokens),
          feed(checkpoint, streaming(usual_sinks), "4 sinks and a window of 252", tokens, text_tokens)}) {
      const bool whole = passage.losses.size() == text_tokens;
      losses.push_back({model + ", " + grouped(context), passage.stage, decimal(passage.loss(0, context), 3),
                        decimal(passage.loss(context, shown), 3), whole ? decimal(passage.loss(0, text_tokens), 3) : "-"});
      if (whole) rates.push_back(rate_row(model, passage));
      numbers.push_back(numbers_of(model, passage));
      plot.series.push_back(loss_curve(passage, shown / stretch * stretch));
    }
    report.figure("streaming_" + model.substr(5), plot);
  }
  const RandomMistral mistral(data.parent_path());
  const Passage ring = feed(mistral.open(), find_stage("ring"), "ring, window of 512", random_ids(97), text_tokens, 512);
  rates.push_back(rate_row("random, Mistral's shape", ring));
  numbers.push_back(numbers_of("random Mistral", ring));

  report.with_model("tiny-gqa (full cache: stage preallocated) and tiny-mla (absorbed), activations and cache in f32")
      .table("streaming", losses, "Held-out text of all kinds, one document behind the other, in nats per token. The full cache has room for four "
                                  "contexts and goes on past its own. Models of 2 to 4 million parameters.");
  report.with_model("tiny-gqa, tiny-mla, and two random layers of width 40 with a window of 512 and a context of 65,536")
      .table("streaming_rate", rates, "50,000 tokens; the timed ones are fed one by one, the first 1,000 of them after the window became full; rates from the median token.");
  report.numbers("streaming", numbers);
}

}  // namespace kv::book
