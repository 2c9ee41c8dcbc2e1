#pragma once
/// @file
/// Attention of the GQA family, from config.json.
#include "chapters/01_uncached_attention/head_projection.hpp"
#include "common/files/json.hpp"

namespace kv {

struct GroupedConfig {
  HeadSizes heads;    ///< the window left out: it is a layer's
  bool head_norms;    ///< a norm on every query and key head
  bool input_biases;  ///< added to queries, keys and values
  bool output_bias;
};

/// @throws Error naming a field that is missing or outside its range, or heads that cannot share evenly
GroupedConfig grouped_config(const Json& config);

}  // namespace kv
