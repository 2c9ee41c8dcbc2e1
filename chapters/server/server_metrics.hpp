#pragma once
/// @file
/// What the server has seen, in Prometheus' text format, under the names that vLLM gave these numbers.
/// @see https://prometheus.io/docs/instrumenting/exposition_formats/
#include <array>
#include <map>
#include <mutex>
#include <string>

#include "chapters/09_paged_cache/scheduler.hpp"

namespace kv {

/// Counts values by upper bounds.
class Histogram {
 public:
  void observe(double seconds);
  std::string text(const std::string& name, const std::string& help) const;

 private:
  static constexpr std::array bounds{
      0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0};
  std::array<std::uint64_t, bounds.size() + 1> counts_{};  // the last: above all bounds
  double sum_ = 0.0;
};

/// Times are in seconds and of one answer, from the moment its request was read. From any thread.
class ServerMetrics {
 public:
  void first_token(double since_request);
  void next_token(double since_last);
  /// @param per_token the mean after the first token; none when there was only one
  void ended(const std::string& reason, double since_request, std::optional<double> per_token);
  std::string text(const SchedulerStats& stats) const;

 private:
  mutable std::mutex mutex_;
  Histogram first_token_, between_tokens_, per_token_, whole_;  // guarded by mutex_
  std::map<std::string, std::uint64_t> ended_;                  // guarded by mutex_
};

}  // namespace kv
