#pragma once
/// @file
/// The formats by name: what a row of heads and what a latent row is made of.
#include <string_view>

#include "chapters/04_latent_cache/latent_sizes.hpp"
#include "chapters/08_quantised_cache/row_format.hpp"
#include "chapters/models/model_tensors.hpp"

namespace kv {

enum class CacheFormat { bf16, f16, fp8, int8, int4 };

/// Of a head: a key and a value, each for itself. In 8 bits with one scale for each.
/// @param format not int4: its keys are kept in groups of rows, see Int4Cache
RowFormats head_formats(CacheFormat format, const HeadSizes& sizes);

/// The same in e4m3 with scales that come with a checkpoint.
RowFormats static_head_formats(const CacheScales& scales, const HeadSizes& sizes);

/// Of a latent row. Below 16 bits the rotated part stays in bf16: it is an eighth of the row, and
/// without a norm before it. In fp8 the sizes of DeepSeek-V3 give FlashMLA's row: 512 numbers in
/// e4m3, 4 scales in f32, 64 numbers in bf16, 656 bytes.
RowFormats latent_formats(CacheFormat format, const LatentSizes& sizes);

}  // namespace kv
