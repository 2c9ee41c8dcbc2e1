#include "chapters/studies/memory_budget.hpp"

#include <algorithm>

#include "chapters/08_quantised_cache/cache_formats.hpp"
#include "chapters/08_quantised_cache/int4_cache.hpp"
#include "chapters/models/architectures.hpp"
#include "chapters/models/config_field.hpp"
#include "chapters/models/family.hpp"
#include "chapters/models/grouped_config.hpp"
#include "chapters/models/latent_config.hpp"
#include "chapters/models/mixture_config.hpp"
#include "chapters/models/model_sizes.hpp"
#include "chapters/models/quantization_config.hpp"
#include "common/files/error.hpp"

namespace kv {
namespace {

constexpr std::pair<std::string_view, CacheFormat> formats[]{{"bf16", CacheFormat::bf16},
                                                             {"f16", CacheFormat::f16},
                                                             {"fp8", CacheFormat::fp8},
                                                             {"int8", CacheFormat::int8},
                                                             {"int4", CacheFormat::int4}};

std::string_view f32_stage(const Json& config) {
  return family(config) == Family::mla ? "absorbed" : "preallocated";
}

/// No format: f32.
std::optional<CacheFormat> format_of(const Json& config, std::string_view stage) {
  if (stage == f32_stage(config)) return std::nullopt;
  for (const auto& [name, format] : formats)
    if (stage == name) return format;
  std::string known;
  for (const std::string_view name : counted_stages(config))
    known += (known.empty() ? "" : ", ") + std::string(name);
  throw UsageError("the cache of stage '" + std::string(stage) +
                   "' is not counted (counted: " + known + ")");
}

/// Asked of small caches: a group takes what the larger one takes more.
std::size_t int4_bytes(const HeadSizes& sizes, index_t capacity) {
  const auto bytes = [&](index_t tokens) { return Int4Cache(sizes, tokens).bytes().allocated; };
  if (capacity <= int4_group) return bytes(capacity);
  const std::size_t one = bytes(int4_group + 1), two = bytes(2 * int4_group + 1);
  return one + product({(capacity - 1) / int4_group - 1, two - one});
}

/// Of one sequence in one layer.
std::size_t layer_bytes(const Json& config, std::optional<CacheFormat> format, index_t capacity) {
  if (family(config) == Family::mla) {
    const LatentSizes sizes = latent_config(config).sizes;
    const index_t row = format ? latent_formats(*format, sizes).bytes() : 4 * sizes.row_width();
    return product({capacity, row});
  }
  const HeadSizes sizes = grouped_config(config).heads;
  const index_t wide = 4 * (sizes.key_width + sizes.value_width), G = sizes.key_value_heads;
  if (!format) return product({capacity, G, wide});
  if (*format == CacheFormat::int4) return int4_bytes(sizes, capacity);
  const bool has_scales = *format == CacheFormat::fp8 && has_cache_scales(config);
  const RowFormats formats = has_scales ? static_head_formats({1, 1}, sizes) : head_formats(*format, sizes);
  return product({capacity, G, formats.bytes()});
}

/// Of a layer's attention: the projections, and what is between them for one token.
struct AttentionCost {
  index_t parameters, activations;
};

AttentionCost attention_cost(const Json& config) {
  const index_t M = model_sizes(config).width;
  if (family(config) == Family::gqa) {
    const GroupedConfig grouped = grouped_config(config);
    const auto [H, G, D, W, window] = grouped.heads;
    const index_t inputs = H * D + G * (D + W);
    const index_t biases = (grouped.input_biases ? inputs : 0) + (grouped.output_bias ? M : 0);
    return {M * (inputs + H * W) + biases + (grouped.head_norms ? 2 * D : 0),
            2 * H * D + 2 * G * (D + W) + 2 * H * W};
  }
  const auto [sizes, biased] = latent_config(config);
  const index_t biases = biased ? sizes.query_rank.value_or(0) + sizes.row_width() + M : 0;
  const index_t H = sizes.heads, R = sizes.rank, D = sizes.key_width(), W = sizes.value_width;
  const index_t inputs = sizes.query_rank.value_or(M);
  const index_t queries = (sizes.query_rank ? M * inputs + inputs : 0) + inputs * H * D;
  const index_t up = H * (sizes.plain_width + W) * R;
  return {queries + M * sizes.row_width() + R + up + H * W * M + biases,
          H * D + H * sizes.row_width() + 2 * H * R + 2 * H * W};
}

/// Absorption holds the up-projection once more, cut into heads.
std::size_t absorption_parameters(const Json& config) {
  if (family(config) == Family::gqa) return 0;
  const LatentSizes sizes = latent_config(config).sizes;
  return product(
      {model_sizes(config).layers, sizes.heads, sizes.plain_width + sizes.value_width, sizes.rank});
}

}  // namespace

std::vector<std::string_view> counted_stages(const Json& config) {
  std::vector<std::string_view> result{f32_stage(config)};
  for (const auto& [name, format] : formats) result.push_back(name);
  return result;
}

std::size_t cache_bytes(const Json& config, std::string_view stage, const Limits& limits) {
  const std::optional<CacheFormat> format = format_of(config, stage);
  return product(
      {model_sizes(config).layers, limits.sequences, layer_bytes(config, format, limits.capacity)});
}

double cache_bytes_per_token(const Json& config, std::string_view stage) {
  const auto bytes = [&](index_t tokens) { return cache_bytes(config, stage, {1, tokens}); };
  return static_cast<double>(bytes(32 * int4_group) - bytes(31 * int4_group)) / int4_group;
}

index_t parameters(const Json& config) {
  const ModelSizes sizes = model_sizes(config);
  const index_t ends =
      product({sizes.vocabulary, sizes.width, index_t{sizes.tied_embeddings ? 1u : 2u}});
  const index_t attention = product({sizes.layers, attention_cost(config).parameters});
  return ends + attention + feed_forward_cost(config).parameters +
         (2 * sizes.layers + 1) * sizes.width;
}

MemoryBudget memory_budget(const Json& config, std::string_view stage, const Limits& limits,
                           std::optional<std::size_t> weight_bytes, index_t prompt) {
  const ModelSizes sizes = model_sizes(config);
  const std::size_t bf16 = 2, f32 = 4,
                    weights = weight_bytes.value_or(product({parameters(config), bf16}));
  const index_t feed_forward = 3 * sizes.feed_forward_width + 2 * sizes.width;
  const index_t wide = 2 * sizes.width + std::max(attention_cost(config).activations, feed_forward);
  return {
      .weights = weights + product({absorption_parameters(config), bf16}),
      .cache = cache_bytes(config, stage, limits),
      .work = product({prompt, wide, f32}) + product({limits.sequences, sizes.vocabulary, f32})};
}

index_t longest_context(const Json& config, std::string_view stage, index_t sequences,
                        std::optional<std::size_t> weight_bytes, index_t prompt,
                        std::size_t memory) {
  const auto fits = [&](index_t tokens) {
    return memory_budget(config, stage, {sequences, tokens}, weight_bytes, prompt).total() <=
           memory;
  };
  if (!fits(1)) return 0;
  index_t least = 1, most = index_t{1} << 32;  // fits, does not fit
  while (most - least > 1) (fits((least + most) / 2) ? least : most) = (least + most) / 2;
  return least;
}

}  // namespace kv
