#pragma once
/// @file
/// What a model takes of memory: weights, cache, work. Counted from config.json, with no weights at
/// hand.
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/files/json.hpp"
#include "common/model/attention.hpp"

namespace kv {

/// Stages whose caches are counted: the one that keeps rows in f32 (preallocated or absorbed), and
/// chapter 8's.
std::vector<std::string_view> counted_stages(const Json& config);

/// Bytes that such a stage allocates for what it remembers, over all layers.
/// @throws UsageError for another stage
std::size_t cache_bytes(const Json& config, std::string_view stage, const Limits& limits);

/// What one token more takes, once the text is longer than a group.
double cache_bytes_per_token(const Json& config, std::string_view stage);

/// Parameters of a config, every layer and both ends: norms and all.
index_t parameters(const Json& config);

/// Memory of a run.
struct MemoryBudget {
  std::size_t weights;  ///< in the format that they are stored in, each once; all experts
  std::size_t cache;
  std::size_t work;  ///< activations of a prompt that is read in one piece, and the logits
  std::size_t total() const { return weights + cache + work; }
};

/// @param weight_bytes of the files; none: parameters in bf16
/// @param prompt tokens that are read at once, of all sequences
MemoryBudget memory_budget(const Json& config, std::string_view stage, const Limits& limits,
                           std::optional<std::size_t> weight_bytes, index_t prompt);

/// The longest context with which the run still fits; 0: none.
index_t longest_context(const Json& config, std::string_view stage, index_t sequences,
                        std::optional<std::size_t> weight_bytes, index_t prompt,
                        std::size_t memory);

}  // namespace kv
