#include "common/model/metrics.hpp"

#include <sys/resource.h>

#include <algorithm>
#include <numeric>

namespace kv {

double median(std::vector<double> values) {
  if (values.empty()) return 0.0;
  std::ranges::sort(values);
  const index_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2.0;
}

double Metrics::prefill_tokens_per_s() const {
  return prefill_ms > 0.0 ? 1000.0 * static_cast<double>(prompt_tokens) / prefill_ms : 0.0;
}

double Metrics::decode_tokens_per_s() const {
  const double total = std::accumulate(step_ms.begin(), step_ms.end(), 0.0);
  return total > 0.0 ? 1000.0 * static_cast<double>(new_tokens - batch) / total : 0.0;
}

double Metrics::state_bytes_per_token() const {
  return state_tokens > 0 ? static_cast<double>(state_bytes.allocated) / static_cast<double>(state_tokens) : 0.0;
}

void Metrics::write(JsonObject& object) const {
  object.set("prompt_tokens", prompt_tokens)
      .set("new_tokens", new_tokens)
      .set("batch", batch)
      .set("ttft_ms", ttft_ms())
      .set("tpot_ms", tpot_ms())
      .set("prefill_tokens_per_s", prefill_tokens_per_s())
      .set("decode_tokens_per_s", decode_tokens_per_s())
      .set("state_bytes", state_bytes.allocated)
      .set("state_bytes_used", state_bytes.used)
      .set("state_bytes_per_token", state_bytes_per_token())
      .set("peak_rss_bytes", peak_rss_bytes());
}

std::size_t peak_rss_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
#ifdef __APPLE__
  return static_cast<std::size_t>(usage.ru_maxrss);  // bytes there
#else
  return static_cast<std::size_t>(usage.ru_maxrss) * 1024;
#endif
}

}  // namespace kv
