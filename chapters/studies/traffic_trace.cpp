#include "chapters/studies/traffic_trace.hpp"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <random>

#include "common/files/error.hpp"

namespace kv {
namespace {

/// Not std::uniform_real_distribution: its result differs between standard libraries.
double uniform(std::mt19937_64& random) { return static_cast<double>(random() >> 11) * 0x1p-53; }

index_t around(std::mt19937_64& random, index_t mean) {
  return std::max<index_t>(1, static_cast<index_t>(std::lround(static_cast<double>(mean) * (0.5 + uniform(random)))));
}

void append_random(std::vector<Token>& tokens, index_t count, index_t vocabulary, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  for (index_t t = 0; t < count; ++t) tokens.push_back(static_cast<Token>(random() % vocabulary));
}

index_t size_at(const Json& line, std::string_view key, index_t fallback) {
  return line.has(key) ? static_cast<index_t>(line.at(key).number()) : fallback;
}

}  // namespace

std::vector<TraceEntry> seeded_trace(const TraceShape& shape) {
  std::mt19937_64 random(shape.seed);
  std::vector<TraceEntry> trace;
  double now = 0.0;
  for (index_t i = 0; i < shape.requests; ++i) {
    now += -std::log(1.0 - uniform(random)) * 1000.0 / shape.rate;
    const index_t prefix = shape.prefixes == 0 ? 0 : random() % shape.prefixes, own = around(random, shape.prompt_tokens);
    const index_t shared = shape.prefixes == 0 ? 0 : shape.prefix_tokens;
    trace.push_back({now, prefix, shared, shared + own, around(random, shape.new_tokens)});
  }
  return trace;
}

std::vector<TraceEntry> read_trace(const std::filesystem::path& file) {
  std::ifstream stream(file);
  if (!stream) throw Error(file.string() + ": cannot be read");
  std::vector<TraceEntry> trace;
  std::string text;
  for (index_t number = 1; std::getline(stream, text); ++number) {
    if (text.empty()) continue;
    const std::string where = file.string() + ":" + std::to_string(number);
    const Json line = Json::parse(text, where);
    TraceEntry entry{.arrival_ms = line.at("arrival_ms").number(), .prefix = size_at(line, "prefix", 0),
                     .prefix_tokens = size_at(line, "prefix_tokens", 0), .prompt_tokens = size_at(line, "prompt_tokens", 1),
                     .new_tokens = size_at(line, "new_tokens", 1)};
    if (entry.prompt_tokens == 0 || entry.new_tokens == 0 || entry.prefix_tokens > entry.prompt_tokens)
      throw Error(where + ": needs prompt_tokens and new_tokens of at least 1, and no longer prefix than the prompt");
    trace.push_back(entry);
  }
  if (trace.empty()) throw Error(file.string() + ": has no requests");
  std::ranges::stable_sort(trace, {}, &TraceEntry::arrival_ms);
  return trace;
}

std::vector<Token> prompt_of(const TraceEntry& entry, index_t i, index_t vocabulary) {
  std::vector<Token> tokens;
  append_random(tokens, entry.prefix_tokens, vocabulary, 2 * entry.prefix);
  append_random(tokens, entry.prompt_tokens - entry.prefix_tokens, vocabulary, 2 * i + 1);
  return tokens;
}

double ideal_hit_rate(const std::vector<TraceEntry>& trace, index_t page_rows) {
  std::map<index_t, index_t> longest;  // of every prefix, what has been seen
  index_t found = 0, all = 0;
  for (const TraceEntry& entry : trace) {
    index_t& seen = longest[entry.prefix];
    found += std::min({seen, entry.prefix_tokens, entry.prompt_tokens - 1}) / page_rows * page_rows;
    all += entry.prompt_tokens;
    seen = std::max(seen, entry.prefix_tokens);
  }
  return all == 0 ? 0.0 : static_cast<double>(found) / static_cast<double>(all);
}

}  // namespace kv
