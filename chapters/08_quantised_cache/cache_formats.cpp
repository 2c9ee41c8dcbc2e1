#include "chapters/08_quantised_cache/cache_formats.hpp"

#include "chapters/08_quantised_cache/half_rows.hpp"
#include "chapters/08_quantised_cache/int4_rows.hpp"
#include "chapters/08_quantised_cache/scaled_rows.hpp"
#include "chapters/08_quantised_cache/static_rows.hpp"

namespace kv {
namespace {

/// @param run numbers of a row that share a scale in the formats of 8 bits
std::shared_ptr<const RowFormat> row_format(CacheFormat format, index_t width, index_t run) {
  switch (format) {
    case CacheFormat::bf16: return std::make_shared<HalfRows>(DType::bf16, width);
    case CacheFormat::f16: return std::make_shared<HalfRows>(DType::f16, width);
    case CacheFormat::fp8: return std::make_shared<ScaledRows>(DType::f8_e4m3, width, run);
    case CacheFormat::int8: return std::make_shared<ScaledRows>(DType::i8, width, run);
    case CacheFormat::int4: return std::make_shared<Int4Rows>(width);
  }
  throw std::invalid_argument("row_format: unknown format");
}

}  // namespace

// [formats]
RowFormats head_formats(CacheFormat format, const HeadSizes& sizes) {
  const index_t D = sizes.key_width, W = sizes.value_width;
  return {row_format(format, D, D), row_format(format, W, W)};
}

RowFormats static_head_formats(const CacheScales& scales, const HeadSizes& sizes) {
  return {std::make_shared<StaticRows>(scales.key, sizes.key_width),
          std::make_shared<StaticRows>(scales.value, sizes.value_width)};
}

RowFormats latent_formats(CacheFormat format, const LatentSizes& sizes) {
  constexpr index_t run = 128;  // as in FlashMLA
  const CacheFormat rotated = format == CacheFormat::f16 ? CacheFormat::f16 : CacheFormat::bf16;
  return {row_format(format, sizes.rank, run), row_format(rotated, sizes.rope_width, run)};
}
// [formats]

}  // namespace kv
