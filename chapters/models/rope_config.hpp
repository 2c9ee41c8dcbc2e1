#pragma once
/// @file
/// Rotary position embedding, as config.json says: rope_theta with rope_scaling, or the newer rope_parameters.
#include "common/files/json.hpp"
#include "common/tensor/rope.hpp"

namespace kv {

/// @param width of the rotated part of a head
/// @throws Error naming a field outside its range, or a kind of scaling that is not known
Rope rope_config(const Json& config, index_t width);

/// Tokens that the model can look back on: max_position_embeddings, or more where a stretched RoPE reaches further.
index_t context_length(const Json& config);

/// YaRN's second correction, a factor on the softmax scale \f$ 1/\sqrt D \f$: \f$ m(\mathrm{mscale\_all\_dim})^2 \f$ with
/// \f$ m(x) = 0.1\,x \ln s + 1 \f$; 1 where RoPE is not scaled, or without mscale_all_dim. The first one, on cos and sin, is
/// in Rope.
/// Both come from the config alone: how much a cache can hold has no say.
/// @see Peng et al. 2023, section 3.4, arXiv:2309.00071
float softmax_factor(const Json& config);

}  // namespace kv
