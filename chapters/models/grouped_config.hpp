#pragma once
/// @file
/// Attention of the GQA family, from config.json.
#include "chapters/01_uncached_attention/head_projection.hpp"
#include "common/files/json.hpp"

namespace kv {

struct GroupedConfig {
  HeadSizes heads;
  bool head_norms;  ///< a norm on every query and key head
};

/// @throws Error naming a field that is missing or outside its range, or heads that cannot share evenly
GroupedConfig grouped_config(const Json& config);

}  // namespace kv
