#pragma once
/// @file
/// Attention of the MLA family, from config.json.
#include "chapters/04_latent_cache/latent_sizes.hpp"
#include "common/files/json.hpp"

namespace kv {

/// @throws Error naming a field that is missing or outside its range, or odd where pairs are turned
LatentSizes latent_config(const Json& config);

}  // namespace kv
