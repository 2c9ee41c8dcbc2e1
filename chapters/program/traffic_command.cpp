#include <algorithm>
#include <chrono>
#include <cmath>
#include <iostream>
#include <map>
#include <thread>

#include "chapters/program/paged_session.hpp"
#include "chapters/studies/traffic_trace.hpp"
#include "common/files/error.hpp"
#include "common/tensor/parallel.hpp"
#include "common/text/table.hpp"

namespace kv {
namespace {

/// When things happened to one request, in ms since the start.
struct Times {
  double arrival = 0.0, first = 0.0, last = 0.0;
  index_t prompt = 0, reused = 0, tokens = 0;
  double ttft() const { return first - arrival; }
  double tpot() const { return tokens > 1 ? (last - first) / static_cast<double>(tokens - 1) : 0.0; }
};

/// The smallest value that p of all do not exceed.
double percentile(std::vector<double> values, double p) {
  if (values.empty()) return 0.0;
  std::ranges::sort(values);
  const double rank = std::ceil(p * static_cast<double>(values.size()));
  return values[static_cast<index_t>(std::max(rank, 1.0)) - 1];
}

struct Report {
  std::vector<Times> times;
  SchedulerStats stats;
  double seconds = 0.0, ideal_hit_rate = 0.0, wasted_rows = 0.0;
  index_t most_held = 0;

  std::vector<double> all(double (Times::*what)() const) const {
    std::vector<double> values;
    for (const Times& each : times)
      if (what != &Times::tpot || each.tokens > 1) values.push_back((each.*what)());
    return values;
  }
  double per_second(std::uint64_t count) const { return seconds > 0.0 ? static_cast<double>(count) / seconds : 0.0; }
};

/// Submits every request when its time has come, and steps in between.
class Run {
 public:
  Run(Scheduler& scheduler, const std::vector<TraceEntry>& trace, index_t vocabulary)
      : scheduler_(scheduler), trace_(trace), vocabulary_(vocabulary) {
    report_.times.resize(trace.size());
    for (index_t i = 0; i < trace.size(); ++i) report_.times[i].arrival = trace[i].arrival_ms;
  }

  Report operator()() {
    while (next_ < trace_.size() || !scheduler_.idle()) {
      submit_what_has_come();
      if (scheduler_.idle())
        std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(trace_[next_].arrival_ms - watch_.milliseconds()));
      else
        step();
    }
    report_.seconds = watch_.milliseconds() / 1000.0;
    report_.wasted_rows /= std::max<double>(1.0, static_cast<double>(measured_));
    report_.stats = scheduler_.stats();
    return report_;
  }

 private:
  void submit_what_has_come() {
    for (; next_ < trace_.size() && trace_[next_].arrival_ms <= watch_.milliseconds(); ++next_) {
      Times& times = report_.times[next_];
      Request request{.prompt = prompt_of(trace_[next_], next_, vocabulary_), .max_new_tokens = trace_[next_].new_tokens};
      request.on_token = [&, this](const DrawnToken&) {
        times.last = watch_.milliseconds();
        if (times.tokens++ == 0) times.first = times.last;
        return true;
      };
      request.on_end = [&, this](const EndedAnswer& end) {
        times.prompt = end.prompt_tokens;
        times.reused = end.reused_tokens;
        if (end.finish == Finish::failed) failure_ = "request " + std::to_string(end.request) + ": " + end.error;
      };
      scheduler_.submit(next_ + 1, std::move(request));
    }
  }
  void step() {
    scheduler_.step();
    if (!failure_.empty()) throw Error(failure_);
    const PoolUsage usage = scheduler_.stats().pages;
    report_.most_held = std::max(report_.most_held, usage.held);
    report_.wasted_rows += static_cast<double>(usage.wasted_rows());
    ++measured_;
  }

  Scheduler& scheduler_;
  const std::vector<TraceEntry>& trace_;
  index_t vocabulary_, next_ = 0, measured_ = 0;
  Stopwatch watch_;
  std::string failure_;
  Report report_;
};

Policy chosen_policy(const Arguments& arguments) {
  const std::string name = arguments.text_or("--policy", "continuous");
  if (name == "continuous") return continuous_batching;
  if (name == "whole-prompts") return whole_prompts;
  if (name == "static") return static_batching;
  throw UsageError("--policy must be continuous, whole-prompts or static, not '" + name + "'");
}

std::vector<TraceEntry> chosen_trace(const Arguments& arguments) {
  if (arguments.has("--trace")) return read_trace(arguments.text("--trace"));
  const TraceShape shape{.requests = arguments.size_or("--requests", 64, 1),
                         .rate = arguments.number_or("--rate", 4.0),
                         .prompt_tokens = arguments.size_or("--prompt-tokens", 256, 1),
                         .new_tokens = arguments.size_or("--new-tokens", 32, 1),
                         .prefixes = arguments.size_or("--prefixes", 4),
                         .prefix_tokens = arguments.size_or("--prefix-tokens", 128),
                         .seed = arguments.size_or("--seed", 0)};
  if (!(shape.rate > 0.0)) throw UsageError("--rate must be a positive number");
  return seeded_trace(shape);
}

void print_json(const Report& report, const Stage& stage, const Checkpoint& checkpoint, const Limits& limits) {
  JsonObject object;
  object.set("stage", stage.name).set("model", checkpoint.directory().string()).set("threads", threads())
      .set("batch", limits.sequences).set("page_rows", report.stats.pages.page_rows).set("pages", report.stats.pages.pages)
      .set("requests", report.times.size()).set("seconds", report.seconds)
      .set("prompt_tokens", report.stats.prompt_tokens).set("new_tokens", report.stats.new_tokens)
      .set("fed_tokens", report.stats.fed_tokens).set("steps", report.stats.steps)
      .set("new_tokens_per_s", report.per_second(report.stats.new_tokens))
      .set("requests_per_s", report.per_second(report.times.size()));
  for (const auto& [name, p] : {std::pair("50", 0.5), std::pair("90", 0.9), std::pair("99", 0.99)})
    object.set("ttft_ms_" + std::string(name), percentile(report.all(&Times::ttft), p))
        .set("tpot_ms_" + std::string(name), percentile(report.all(&Times::tpot), p));
  object.set("hit_rate", report.stats.hit_rate()).set("ideal_hit_rate", report.ideal_hit_rate)
      .set("cut_hits", report.stats.cut_hits).set("preemptions", report.stats.preemptions)
      .set("most_pages_held", report.most_held).set("mean_wasted_rows", report.wasted_rows);
  std::vector<JsonObject> each(report.times.size());
  for (index_t i = 0; i < each.size(); ++i)
    each[i].set("arrival_ms", report.times[i].arrival).set("prompt_tokens", report.times[i].prompt)
        .set("reused_tokens", report.times[i].reused).set("ttft_ms", report.times[i].ttft())
        .set("tpot_ms", report.times[i].tpot());
  object.set("each", each);
  std::cout << object.text() << "\n";
}

void print(const Report& report, const Stage& stage, const Checkpoint& checkpoint, const Limits& limits) {
  const auto at = [&](double (Times::*what)() const) {
    const std::vector<double> values = report.all(what);
    return decimal(percentile(values, 0.5), 1) + " / " + decimal(percentile(values, 0.9), 1) + " / " +
           decimal(percentile(values, 0.99), 1) + " ms\n";
  };
  const SchedulerStats& stats = report.stats;
  std::cout << stage.name << " on " << checkpoint.directory().string() << ", " << limits.sequences << " at a time, "
            << stats.pages.pages << " pages of " << stats.pages.page_rows << " rows, " << threads() << " threads\n"
            << report.times.size() << " requests in " << decimal(report.seconds, 2) << " s: " << grouped(stats.new_tokens)
            << " new tokens, " << decimal(report.per_second(stats.new_tokens), 1) << " tokens/s\n"
            << "TTFT at 50 / 90 / 99%: " << at(&Times::ttft) << "TPOT at 50 / 90 / 99%: " << at(&Times::tpot)
            << "hit rate: " << decimal(100.0 * stats.hit_rate(), 1) << "% of " << grouped(stats.prompt_tokens)
            << " prompt tokens (a cache that forgets nothing: " << decimal(100.0 * report.ideal_hit_rate, 1) << "%), "
            << stats.cut_hits << " hits ended at other tokens\n"
            << "preemptions: " << stats.preemptions << "; tokens fed: " << grouped(stats.fed_tokens) << " in " << stats.steps
            << " steps\n"
            << "pages held: at most " << report.most_held << "; rows wasted in them: " << decimal(report.wasted_rows, 1)
            << " on average\n";
}

void run(const Arguments& arguments) {
  const Checkpoint checkpoint = open_checkpoint(arguments);
  const Stage stage = chosen_paged_stage(checkpoint, arguments);
  apply_threads(arguments);
  const Limits limits = chosen_limits(checkpoint, stage, arguments);
  const std::vector<TraceEntry> trace = chosen_trace(arguments);
  Scheduler scheduler = load_scheduler(checkpoint, stage, limits,
                                       {.tokens_per_step = arguments.size_or("--tokens-per-step", 512, 1),
                                        .reuse = !arguments.has("--no-reuse"), .policy = chosen_policy(arguments)});
  Report report = Run(scheduler, trace, model_sizes(checkpoint.config()).vocabulary)();
  report.ideal_hit_rate = ideal_hit_rate(trace, report.stats.pages.page_rows);
  (arguments.has("--json") ? print_json : print)(report, stage, checkpoint, limits);
}

}  // namespace

const Command traffic_command{"traffic",
                              "many requests at once: throughput, latency, reuse, memory",
                              {model_option, stage_option,
                               {"--trace", "FILE", "one JSON object a line: arrival_ms, prefix, prefix_tokens, prompt_tokens, new_tokens"},
                               {"--rate", "R", "without a trace: requests per second, Poisson (default 4)"},
                               {"--requests", "N", "how many (default 64)"},
                               {"--prompt-tokens", "P", "mean tokens of a prompt behind its prefix (default 256)"},
                               {"--new-tokens", "N", "mean tokens of an answer (default 32)"},
                               {"--prefixes", "N", "prefixes that requests share (default 4; 0: none)"},
                               {"--prefix-tokens", "N", "tokens of a prefix (default 128)"},
                               {"--policy", "NAME", "continuous (default), whole-prompts or static"},
                               {"--no-reuse", "", "every prompt is computed in full"},
                               batch_option, capacity_option, step_option, seed_option, threads_option, json_option},
                              run};

}  // namespace kv
