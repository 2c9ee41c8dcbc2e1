#pragma once
/// @file
/// Attention of the GQA family, from config.json.
#include <optional>

#include "chapters/01_uncached_attention/head_projection.hpp"
#include "common/files/json.hpp"

namespace kv {

struct GroupedConfig {
  HeadSizes heads;
  bool head_norms;                ///< a norm on every query and key head
  bool input_biases;              ///< added to queries, keys and values
  bool output_bias;
  std::optional<index_t> window;  ///< a token sees itself and at most window - 1 before it
};

/// @throws Error naming a field that is missing or outside its range, or heads that cannot share evenly
GroupedConfig grouped_config(const Json& config);

/// The window alone, of either family.
std::optional<index_t> sliding_window(const Json& config);

}  // namespace kv
