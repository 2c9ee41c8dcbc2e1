#pragma once
/// @file
/// Scales for keys and values that come with a checkpoint: kv_cache_scheme of compressed-tensors.
#include <optional>

#include "common/checkpoint/checkpoint.hpp"

namespace kv {

/// Of one layer, in e4m3: \f$ \hat x = s \operatorname{round}(x / s) \f$.
struct CacheScales {
  float key, value;
};

/// The tensors `k_scale` and `v_scale` of a layer's attention; none where config.json has no
/// scheme.
/// @throws Error when one is missing, has not one element, or is no positive finite number
std::optional<CacheScales> cache_scales(const Checkpoint& checkpoint, index_t layer);

}  // namespace kv
