#pragma once
/// @file
/// Sizes that every architecture has, from config.json.
#include "common/files/json.hpp"

namespace kv {

struct ModelSizes {
  index_t layers, width, feed_forward_width, vocabulary, context;
  float norm_epsilon;
  bool tied_embeddings;
};

/// @throws Error naming a field that is missing or outside its range
ModelSizes model_sizes(const Json& config);

}  // namespace kv
