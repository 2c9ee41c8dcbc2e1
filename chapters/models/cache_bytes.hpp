#pragma once
/// @file
/// What one token costs in every layout of the cache, from config.json alone.
#include <string>
#include <vector>

#include "common/files/json.hpp"
#include "common/tensor/tensor.hpp"

namespace kv {

/// One way to keep a token.
struct Layout {
  std::string name;
  index_t values_per_layer;  ///< numbers kept for one token in one layer
  bool is_checkpoints_own;   ///< what the checkpoint's weights were made for
};

/// Every layout for the heads of a config: its own, and what the others would cost with the same heads.
/// @throws Error as family(), grouped_config() and latent_config()
std::vector<Layout> layouts(const Json& config);

/// Bytes for one token over all layers.  @throws Error when they do not fit 64 bits
std::size_t bytes_per_token(const Layout& layout, index_t layers, index_t element_bytes);

}  // namespace kv
