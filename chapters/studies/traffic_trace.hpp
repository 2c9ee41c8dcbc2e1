#pragma once
/// @file
/// Traffic: who asks when, and for what.
#include <filesystem>
#include <vector>

#include "common/files/json.hpp"
#include "common/text/token.hpp"

namespace kv {

/// One request of a trace. Tokens are random, but those of a prefix are the same in all requests that name it.
struct TraceEntry {
  double arrival_ms = 0.0;
  index_t prefix = 0;          ///< number of the shared prefix
  index_t prefix_tokens = 0;   ///< of the prompt, the first so many
  index_t prompt_tokens = 1;   ///< in all
  index_t new_tokens = 1;
};

/// Lengths of a seeded trace. Prompts and answers are uniform between half and one and a half times these.
struct TraceShape {
  index_t requests = 64;
  double rate = 4.0;  ///< per second, Poisson
  index_t prompt_tokens = 256, new_tokens = 32;
  index_t prefixes = 4, prefix_tokens = 128;
  std::uint64_t seed = 0;
};
std::vector<TraceEntry> seeded_trace(const TraceShape& shape);

/// One JSON object a line: arrival_ms, prefix, prefix_tokens, prompt_tokens, new_tokens.
/// @throws Error naming file and line
std::vector<TraceEntry> read_trace(const std::filesystem::path& file);

/// The prompt of entry i.
std::vector<Token> prompt_of(const TraceEntry& entry, index_t i, index_t vocabulary);

/// Of prompt tokens, the share that a cache which forgets nothing could find: whole pages of prefixes that came before.
double ideal_hit_rate(const std::vector<TraceEntry>& trace, index_t page_rows);

}  // namespace kv
