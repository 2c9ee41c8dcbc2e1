#pragma once
/// @file
/// The sizes of multi-head latent attention.
#include <optional>

#include "chapters/01_uncached_attention/head_projection.hpp"
#include "common/tensor/tensor.hpp"

namespace kv {

/// Sizes of one layer. R is the latent's rank, P the width of the rotated part, which all heads share.
struct LatentSizes {
  index_t width;                      ///< M
  index_t heads;                      ///< H
  index_t rank;                       ///< R, kv_lora_rank
  index_t rope_width;                 ///< P, qk_rope_head_dim
  index_t plain_width;                ///< of a query or key without its rotated part, qk_nope_head_dim
  index_t value_width;                ///< W, v_head_dim
  std::optional<index_t> query_rank;  ///< q_lora_rank; none: queries are not compressed

  index_t key_width() const { return plain_width + rope_width; }  ///< D
  index_t row_width() const { return rank + rope_width; }         ///< what one token leaves in the cache, R + P
  HeadSizes expanded() const { return {heads, heads, key_width(), value_width}; }
};

}  // namespace kv
