#pragma once
/// @file
/// Attention of the MLA family, from config.json.
#include "chapters/04_latent_cache/latent_sizes.hpp"
#include "common/files/json.hpp"

namespace kv {

struct LatentConfig {
  LatentSizes sizes;
  bool biases;  ///< added to both compressions and to the output
};

/// @throws Error naming a field that is missing or outside its range, or odd where pairs are turned
LatentConfig latent_config(const Json& config);

}  // namespace kv
