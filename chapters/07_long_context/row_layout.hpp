#pragma once
/// @file
/// Where a key and a value lie in a stored row.
#include "chapters/01_uncached_attention/head_projection.hpp"
#include "chapters/04_latent_cache/latent_sizes.hpp"

namespace kv {

/// What one row of a head holds: a key, and a value behind it or in it.
struct RowLayout {
  index_t heads, key_width, value_offset, value_width;
  index_t width() const { return std::max(key_width, value_offset + value_width); }
};

/// Of heads: the value behind the key.
RowLayout layout_of(const HeadSizes& sizes);
/// Of latents: one row for all heads, all of it the key, its first R numbers the value.
RowLayout layout_of(const LatentSizes& sizes);

}  // namespace kv
