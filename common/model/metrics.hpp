#pragma once
/// @file
/// The one place where time and memory are measured.
#include <chrono>

#include "common/files/json.hpp"
#include "common/model/attention.hpp"
#include "common/tensor/tensor.hpp"

namespace kv {

/// Milliseconds since it was made.
class Stopwatch {
 public:
  double milliseconds() const {
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// Middle value; of an even number the mean of the two in the middle. 0 for none.
double median(std::vector<double> values);

/// What a run cost. Prefill is the work on the prompt up to the first new token; decode is every step after it.
struct Metrics {
  index_t prompt_tokens = 0;   ///< tokens prefilled, over all sequences
  index_t new_tokens = 0;      ///< tokens produced, over all sequences
  index_t batch = 1;           ///< sequences
  double prefill_ms = 0.0;     ///< time to first token (TTFT)
  std::vector<double> step_ms;  ///< each decode step; a step gives one token per sequence
  StateBytes state_bytes;       ///< what the stage has allocated to remember, and uses
  index_t state_tokens = 0;     ///< tokens in all sequences at the end

  double ttft_ms() const { return prefill_ms; }
  /// Time per output token: the median decode step.
  double tpot_ms() const { return median(step_ms); }
  double prefill_tokens_per_s() const;
  /// Tokens after each sequence's first, over the time of all decode steps.
  double decode_tokens_per_s() const;
  double state_bytes_per_token() const;
  /// The fields of `kvbook bench --json` that are measured.
  void write(JsonObject& object) const;
};

/// The most memory this process has ever held, in bytes.
std::size_t peak_rss_bytes();

}  // namespace kv
