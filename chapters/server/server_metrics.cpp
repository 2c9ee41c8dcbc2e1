#include "chapters/server/server_metrics.hpp"

#include <algorithm>
#include <sstream>

namespace kv {
namespace {

const std::string prefix = "kvbook:";

std::string heading(const std::string& name, const std::string& type, const std::string& help) {
  return "# HELP " + prefix + name + " " + help + "\n# TYPE " + prefix + name + " " + type + "\n";
}

std::string number(double value) {
  std::ostringstream out;
  out.precision(15);
  out << value;
  return out.str();
}

std::string one(const std::string& name, const std::string& type, double value, const std::string& help) {
  return heading(name, type, help) + prefix + name + " " + number(value) + "\n";
}

}  // namespace

void Histogram::observe(double seconds) {
  ++counts_[static_cast<index_t>(std::ranges::lower_bound(bounds, seconds) - bounds.begin())];
  sum_ += seconds;
}

std::string Histogram::text(const std::string& name, const std::string& help) const {
  std::string text = heading(name, "histogram", help);
  std::uint64_t below = 0;
  for (index_t i = 0; i < counts_.size(); ++i)
    text += prefix + name + "_bucket{le=\"" + (i < bounds.size() ? number(bounds[i]) : "+Inf") + "\"} " +
            std::to_string(below += counts_[i]) + "\n";
  return text + prefix + name + "_sum " + number(sum_) + "\n" + prefix + name + "_count " + std::to_string(below) + "\n";
}

void ServerMetrics::first_token(double since_request) {
  const std::lock_guard lock(mutex_);
  first_token_.observe(since_request);
}

void ServerMetrics::next_token(double since_last) {
  const std::lock_guard lock(mutex_);
  between_tokens_.observe(since_last);
}

void ServerMetrics::ended(const std::string& reason, double since_request, std::optional<double> per_token) {
  const std::lock_guard lock(mutex_);
  ++ended_[reason];
  whole_.observe(since_request);
  if (per_token) per_token_.observe(*per_token);
}

std::string ServerMetrics::text(const SchedulerStats& stats) const {
  const auto real = [](auto count) { return static_cast<double>(count); };
  const PoolUsage& pages = stats.pages;
  std::string text =
      one("num_requests_running", "gauge", real(stats.running), "Answers that have a place in the batch.") +
      one("num_requests_waiting", "gauge", real(stats.waiting), "Answers in the queue.") +
      one("kv_cache_usage_perc", "gauge", pages.pages == 0 ? 0.0 : real(pages.held) / real(pages.pages),
          "Share of the pages that are held; 1 is all.") +
      one("num_preemptions_total", "counter", real(stats.preemptions), "Times that an answer gave its pages back.") +
      one("prompt_tokens_total", "counter", real(stats.prompt_tokens), "Tokens of prompts that were admitted.") +
      one("generation_tokens_total", "counter", real(stats.new_tokens), "Tokens drawn.") +
      one("computed_tokens_total", "counter", real(stats.fed_tokens), "Tokens fed to the model.") +
      one("iterations_total", "counter", real(stats.steps), "Steps.") +
      one("prefix_cache_queries_total", "counter", real(stats.prompt_tokens), "Tokens looked for in the cache.") +
      one("prefix_cache_hits_total", "counter", real(stats.reused_tokens), "Tokens found there.") +
      one("prefix_cache_hit_rate", "gauge", stats.hit_rate(), "Found by looked for, since the start.") +
      heading("kv_cache_pages", "gauge", "Pages by what they are: free, kept for who may come, held by answers.");
  for (const auto& [state, count] : {std::pair{"free", pages.free}, {"kept", pages.kept}, {"held", pages.held}})
    text += prefix + "kv_cache_pages{state=\"" + state + "\"} " + std::to_string(count) + "\n";
  const std::lock_guard lock(mutex_);
  text += heading("request_success_total", "counter", "Answers by the reason they ended for.");
  for (const auto& [reason, count] : ended_)
    text += prefix + "request_success_total{finished_reason=\"" + reason + "\"} " + std::to_string(count) + "\n";
  return text + first_token_.text("time_to_first_token_seconds", "From the request to the first token.") +
         between_tokens_.text("inter_token_latency_seconds", "From token to token.") +
         per_token_.text("request_time_per_output_token_seconds", "The mean of an answer, after its first token.") +
         whole_.text("e2e_request_latency_seconds", "From the request to the end of the answer.");
}

}  // namespace kv
