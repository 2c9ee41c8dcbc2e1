#pragma once
/// @file
/// How a checkpoint's weights were rounded, as the quantization_config of its config.json says.
#include "common/files/json.hpp"

namespace kv {

/// Returns for a config without rounded weights, or with weights in e4m3 and one scale for each 128 x 128 block, as DeepSeek-V3
/// is published, or in 8-bit integers and one scale for each output, as compressed-tensors writes them. What the config says
/// about activations is not looked at: they stay in f32, which is at least as exact. The checkpoint checks the scales.
/// @throws Error naming the field that says otherwise
void require_known_quantization(const Json& config);

/// Whether the checkpoint brings scales for its keys and values, one each for a layer, in 8-bit floats: compressed-tensors'
/// kv_cache_scheme. A cache in another format need not look at them.
bool has_cache_scales(const Json& config);

}  // namespace kv
