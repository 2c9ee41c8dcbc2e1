#pragma once
/// @file
/// How far back a layer looks, from config.json.
#include "common/files/json.hpp"
#include "common/tensor/tensor.hpp"

namespace kv {

/// How many tokens each one sees in a layer, itself counted; no_window: all before it.
/// @throws Error naming a field that is missing or outside its range, or that says otherwise than the architecture attends
index_t attention_window(const Json& config, index_t layer);

}  // namespace kv
