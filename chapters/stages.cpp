#include "chapters/stages.hpp"

#include <algorithm>
#include <bit>
#include <charconv>

#include "chapters/01_uncached_attention/uncached_attention.hpp"
#include "chapters/02_concat_cache/concat_attention.hpp"
#include "chapters/03_preallocated_cache/preallocated_attention.hpp"
#include "chapters/04_latent_cache/absorbed_attention.hpp"
#include "chapters/04_latent_cache/decompressed_attention.hpp"
#include "chapters/04_latent_cache/latent_attention.hpp"
#include "chapters/06_cuda_kernels/cuda_stages.hpp"
#include "chapters/07_long_context/fastgen.hpp"
#include "chapters/07_long_context/forgetting_attention.hpp"
#include "chapters/07_long_context/forgetting_latents.hpp"
#include "chapters/07_long_context/heavy_hitters.hpp"
#include "chapters/07_long_context/least_recently_used.hpp"
#include "chapters/07_long_context/ring_attention.hpp"
#include "chapters/07_long_context/snap.hpp"
#include "chapters/07_long_context/streaming_attention.hpp"
#include "chapters/07_long_context/streaming_latents.hpp"
#include "chapters/08_quantised_cache/cache_formats.hpp"
#include "chapters/08_quantised_cache/int4_attention.hpp"
#include "chapters/08_quantised_cache/quantised_attention.hpp"
#include "chapters/08_quantised_cache/quantised_latents.hpp"
#include "chapters/09_paged_cache/exact_pages.hpp"
#include "chapters/09_paged_cache/paged_absorbed_attention.hpp"
#include "chapters/09_paged_cache/paged_attention.hpp"
#include "chapters/09_paged_cache/quantised_pages.hpp"
#include "chapters/10_tensor_parallel/rank_group.hpp"
#include "chapters/models/family.hpp"
#include "chapters/models/layer_parts.hpp"
#include "chapters/models/model_sizes.hpp"
#include "chapters/models/model_tensors.hpp"
#include "chapters/models/quantization_config.hpp"
#include "common/files/error.hpp"

namespace kv {
namespace {

constexpr Equality exact{};
constexpr Equality on_device{1e-4, "sums in the order of threads and tiles; prompts as two bf16 numbers each, 16 bits"};
constexpr Equality absorbed{1e-5, "q.(Wc) is computed as (W'q).c, another order of the sums", "uncached", true};
constexpr Equality added_up{1e-5, "a sum is added up rank by rank, and latents are absorbed", "uncached", true};
constexpr Equality forgets{.reason = "rows between the sinks and the window are forgotten", .lossy = true};
constexpr Equality gives_up{.reason = "rows are given up by their use", .lossy = true};
constexpr Equality rounds{.reason = "stored rows are rounded", .lossy = true};
const std::vector<Family> every_family{Family::gqa, Family::mla}, latent{Family::mla};

constexpr StageOption rows_per_head{"budget", "N", "rows that a key/value head keeps (default 256)", 256, 1, 1 << 24};

/// Layers whose attention is made from who makes the heads, and the limits.
template <class StageAttention>
MakeLayer on_heads(const Checkpoint& checkpoint, const Limits& limits, const StageOptions&) {
  return [=](index_t layer) -> LayerHalves {
    return {std::make_unique<StageAttention>(head_projection(checkpoint, layer), limits)};
  };
}

/// Layers that keep latents and expand them.
template <class StageAttention>
MakeLayer on_latents(const Checkpoint& checkpoint, const Limits& limits, const StageOptions&) {
  return [=](index_t layer) -> LayerHalves {
    return {std::make_unique<StageAttention>(latent_projection(checkpoint, layer), limits)};
  };
}

/// Layers that keep latents and may work on them as they are.
template <class StageAttention>
MakeLayer on_absorbed_latents(const Checkpoint& checkpoint, const Limits& limits, const StageOptions&) {
  return [=](index_t layer) -> LayerHalves {
    return {std::make_unique<StageAttention>(latent_projection(checkpoint, layer), absorption(checkpoint, layer), limits)};
  };
}

StreamingSizes streaming_sizes(const Json& config, const StageOptions& options) {
  const index_t context = model_sizes(config).context;
  StreamingSizes sizes{.sinks = options.size("sinks"), .budget = options.size("budget")};
  if (!options.is_given("budget")) sizes.budget = std::min(sizes.budget, context);
  if (sizes.budget <= sizes.sinks)
    throw UsageError("--budget " + std::to_string(sizes.budget) + " leaves no row for a window beside " +
                     std::to_string(sizes.sinks) + " sinks: it must be larger than --sinks");
  if (sizes.budget > context)
    throw UsageError("--budget " + std::to_string(sizes.budget) + " is more than the model's context of " +
                     std::to_string(context) + " (max_position_embeddings)");
  return sizes;
}

MakeLayer streaming(const Checkpoint& checkpoint, const Limits& limits, const StageOptions& options) {
  const StreamingSizes sizes = streaming_sizes(checkpoint.config(), options);
  return [=](index_t layer) -> LayerHalves {
    if (family(checkpoint.config()) == Family::gqa)
      return {std::make_unique<StreamingAttention>(head_projection(checkpoint, layer), limits, sizes)};
    return {std::make_unique<StreamingLatents>(latent_projection(checkpoint, layer), absorption(checkpoint, layer), limits,
                                               sizes)};
  };
}

/// A layer that was made with a window which the budget holds keeps that and nothing else, as it always did.
std::unique_ptr<Attention> forgetting_heads(const Checkpoint& checkpoint, index_t layer, const Limits& limits, index_t budget,
                                            index_t room, const MakePolicy& make_policy) {
  auto heads = head_projection(checkpoint, layer);
  if (heads->sizes().window <= budget) return std::make_unique<RingAttention>(std::move(heads), limits);
  return std::make_unique<ForgettingAttention>(std::move(heads), limits, room, make_policy);
}

/// @param room rows of each head that memory is taken for from the beginning
MakeLayer forgetting(const Checkpoint& checkpoint, const Limits& limits, index_t budget, index_t room,
                     const MakePolicy& make_policy) {
  return [=](index_t layer) -> LayerHalves {
    if (family(checkpoint.config()) == Family::gqa)
      return {forgetting_heads(checkpoint, layer, limits, budget, room, make_policy)};
    return {std::make_unique<ForgettingLatents>(latent_projection(checkpoint, layer), absorption(checkpoint, layer), limits, room,
                                                make_policy)};
  };
}

template <class Policy>
MakeLayer within_budget(const Checkpoint& checkpoint, const Limits& limits, const StageOptions& options) {
  const index_t budget = options.size("budget"), room = std::min(budget, limits.capacity);
  return forgetting(checkpoint, limits, budget, room,
                    [=](index_t heads) { return std::make_unique<Policy>(heads, budget, room); });
}

MakeLayer snap(const Checkpoint& checkpoint, const Limits& limits, const StageOptions& options) {
  const index_t budget = options.size("budget");
  return forgetting(checkpoint, limits, budget, 0, [=](index_t heads) { return std::make_unique<Snap>(heads, budget); });
}

MakeLayer fastgen(const Checkpoint& checkpoint, const Limits& limits, const StageOptions& options) {
  const FastGenSizes sizes{.budget = options.size("budget"), .mass = options.number("mass") / 100};
  const auto kinds = token_kinds(checkpoint);
  return forgetting(checkpoint, limits, sizes.budget, 0,
                    [=](index_t heads) { return std::make_unique<FastGen>(heads, sizes, kinds); });
}

std::unique_ptr<Attention> heads_in(CacheFormat format, const Checkpoint& checkpoint, index_t layer, const Limits& limits) {
  auto heads = head_projection(checkpoint, layer);
  if (format == CacheFormat::int4) return std::make_unique<Int4Attention>(std::move(heads), limits);
  const std::optional<CacheScales> scales = cache_scales(checkpoint, layer);
  const RowFormats formats = scales && format == CacheFormat::fp8 ? static_head_formats(*scales, heads->sizes())
                                                                  : head_formats(format, heads->sizes());
  return std::make_unique<QuantisedAttention>(std::move(heads), limits, formats);
}

std::unique_ptr<Attention> latents_in(CacheFormat format, const Checkpoint& checkpoint, index_t layer, const Limits& limits) {
  if (format == CacheFormat::fp8 && has_cache_scales(checkpoint.config()))
    throw Error(checkpoint.directory().string() + ": kv_cache_scheme has scales for keys and values; stage 'fp8' keeps latents");
  auto latents = latent_projection(checkpoint, layer);
  const RowFormats formats = latent_formats(format, latents->latent_sizes());
  return std::make_unique<QuantisedLatents>(std::move(latents), absorption(checkpoint, layer), limits, formats);
}

/// Layers whose rows are kept in a format: of heads, or latents where the model has them.
template <CacheFormat format>
MakeLayer in_format(const Checkpoint& checkpoint, const Limits& limits, const StageOptions&) {
  return [=](index_t layer) -> LayerHalves {
    const bool keeps_latents = family(checkpoint.config()) == Family::mla;
    return {keeps_latents ? latents_in(format, checkpoint, layer, limits) : heads_in(format, checkpoint, layer, limits)};
  };
}

MakeLayer paged(const Checkpoint& checkpoint, std::shared_ptr<PageTable> table) {
  return [=](index_t layer) -> LayerHalves {
    auto heads = head_projection(checkpoint, layer);
    auto store = std::make_shared<ExactPages>(layout_of(heads->sizes()), table->sizes());
    return {std::make_unique<PagedAttention>(std::move(heads), table, std::move(store))};
  };
}

MakeLayer paged_absorbed(const Checkpoint& checkpoint, std::shared_ptr<PageTable> table) {
  return [=](index_t layer) -> LayerHalves {
    auto latents = latent_projection(checkpoint, layer);
    auto store = std::make_shared<ExactPages>(layout_of(latents->latent_sizes()), table->sizes());
    return {std::make_unique<PagedAbsorbedAttention>(std::move(latents), absorption(checkpoint, layer), table, std::move(store))};
  };
}

/// Pages of rows in fp8, of heads or of latents.
MakeLayer paged_fp8(const Checkpoint& checkpoint, std::shared_ptr<PageTable> table) {
  return [=](index_t layer) -> LayerHalves {
    if (family(checkpoint.config()) == Family::gqa) {
      auto heads = head_projection(checkpoint, layer);
      auto store = std::make_shared<QuantisedPages>(head_formats(CacheFormat::fp8, heads->sizes()), layout_of(heads->sizes()),
                                                    table->sizes());
      return {std::make_unique<PagedAttention>(std::move(heads), table, std::move(store))};
    }
    auto latents = latent_projection(checkpoint, layer);
    auto store = std::make_shared<QuantisedPages>(latent_formats(CacheFormat::fp8, latents->latent_sizes()),
                                                  layout_of(latents->latent_sizes()), table->sizes());
    return {std::make_unique<PagedAbsorbedAttention>(std::move(latents), absorption(checkpoint, layer), table, std::move(store))};
  };
}

/// A row of the table: a stage on pages, with a page table of its own.
Stage on_pages(std::string_view name, std::string_view idea, std::vector<Family> families, const Equality& equality,
               MakeLayersOnPages make) {
  Stage stage{name, 9, idea, std::move(families), equality,
              MakeLayers([make](const Checkpoint& checkpoint, const Limits& limits, const StageOptions& options) {
                return make(checkpoint, make_page_table(limits, options));
              }),
              {{"page", "N", "rows of a page, a power of two (default 16)", 16, 1, 4096},
               {"pages", "N", "pages in all (default: what all sequences take when they are full)", 0, 1, 1 << 24}}};
  stage.make_on_pages = std::move(make);
  return stage;
}
/// A model that ranks make together.
template <Cut cut>
std::unique_ptr<Transformer> on_ranks(const Checkpoint& checkpoint, const Limits& limits, const StageOptions& options) {
  return make_on_ranks(cut, checkpoint, limits, options);
}

const StageOption ranks_option{"ranks", "N", "ranks that the model is cut over (default 2)", 2, 1, 64};

bool names_chapter(std::string_view text, int chapter) {
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() && number == chapter;
}

}  // namespace

std::shared_ptr<PageTable> make_page_table(const Limits& limits, const StageOptions& options) {
  const index_t rows = options.size("page"), whole = (limits.capacity + rows - 1) / rows;
  if (!std::has_single_bit(rows)) throw UsageError("--page " + std::to_string(rows) + ": must be a power of two");
  const index_t pages = options.is_given("pages") ? options.size("pages") : limits.sequences * whole;
  if (pages < whole)
    throw UsageError("--pages " + std::to_string(pages) + ": one sequence of " + std::to_string(limits.capacity) +
                     " tokens alone takes " + std::to_string(whole));
  return std::make_shared<PageTable>(limits.sequences, PageSizes{.rows = rows, .pages = pages});
}

Stage on_table(Stage stage, std::shared_ptr<PageTable> table) {
  if (!stage.make_on_pages) throw Error("stage '" + std::string(stage.name) + "' keeps no pages");
  stage.make = MakeLayers([=, make = stage.make_on_pages](const Checkpoint& checkpoint, const Limits&, const StageOptions&) {
    return make(checkpoint, table);
  });
  return stage;
}

// [table]
const std::vector<Stage>& stages() {
  static const std::vector<Stage> table{
      {"uncached", 1, "everything again for every token", every_family, exact,
       MakeLayers(on_heads<UncachedAttention>)},
      {"concat", 2, "keys and values kept, grown by copying", every_family, exact,
       MakeLayers(on_heads<ConcatAttention>)},
      {"preallocated", 3, "keys and values written in place", every_family, exact,
       MakeLayers(on_heads<PreallocatedAttention>)},
      {"absorbed", 4, "one latent row for all heads, never expanded", latent, absorbed,
       MakeLayers(on_absorbed_latents<AbsorbedAttention>)},
      {"decompressed", 4, "latents cached, expanded at every step", latent, exact,
       MakeLayers(on_latents<DecompressedAttention>)},
      {"latent", 4, "prompts expanded, decode steps absorbed", latent, absorbed,
       MakeLayers(on_absorbed_latents<LatentAttention>)},
      {"cuda-naive", cuda_chapter, "kernels for the whole model, keys and values of all heads",
       every_family, on_device,
       MakeTransformer(make_cuda_naive), {}, Reach::everything, {}, LinearInputs::on_device},
      {"cuda-bf16", cuda_chapter, "kernels for the whole model, keys and values in bf16",
       every_family, rounds,
       MakeTransformer(make_cuda_bf16), {}, Reach::everything, {}, LinearInputs::on_device},
      {"cuda-absorbed", cuda_chapter, "kernels for the whole model, latents", latent, on_device,
       MakeTransformer(make_cuda_absorbed), {}, Reach::everything, {}, LinearInputs::on_device},
      {"cuda-uncached", cuda_chapter,
       "kernels for the whole model, everything again for every token", every_family, on_device,
       MakeTransformer(make_cuda_uncached), {}, Reach::everything, {}, LinearInputs::on_device},
      {"ring", 7, "rows that a layer's own window still shows", {Family::gqa}, exact,
       MakeLayers(on_heads<RingAttention>)},
      {"streaming", 7, "the first rows and the latest ones, a budget in all", every_family, forgets,
       MakeLayers(streaming),
       {{"budget", "N", "rows that a token sees, its own counted (default 256)", 256, 1, 1 << 24},
        {"sinks", "N", "of these, rows from the first token on that stay for ever (default 4)", 4,
         0, 1 << 24}},
       Reach::beyond_made},
      {"heavy-hitters", 7, "the rows that got the most attention, and recent ones", every_family,
       gives_up,
       MakeLayers(within_budget<HeavyHitters>), {rows_per_head}},
      {"lru", 7, "rows that got more than their share most recently", every_family, gives_up,
       MakeLayers(within_budget<LeastRecentlyUsed>), {rows_per_head}},
      {"snap", 7, "of a prompt the rows that its last tokens look at", every_family, gives_up,
       MakeLayers(snap), {rows_per_head}},
      {"fastgen", 7, "of a prompt what each head needs", {Family::gqa}, gives_up,
       MakeLayers(fastgen),
       {rows_per_head,
        {"mass", "T", "percent of its attention in the prompt that a head keeps (default 95)", 95,
         0, 100, true}}},
      {"bf16", 8, "rows in bf16", every_family, rounds, MakeLayers(in_format<CacheFormat::bf16>)},
      {"f16", 8, "rows in f16", every_family, rounds, MakeLayers(in_format<CacheFormat::f16>)},
      {"fp8", 8, "rows in e4m3 with scales", every_family, rounds,
       MakeLayers(in_format<CacheFormat::fp8>)},
      {"int8", 8, "rows in 8-bit integers with scales", every_family, rounds,
       MakeLayers(in_format<CacheFormat::int8>)},
      {"int4", 8, "4 bits: keys by channel, values and latents by row", every_family, rounds,
       MakeLayers(in_format<CacheFormat::int4>)},
      on_pages("paged", "keys and values in pages that sequences share", every_family, exact,
       paged),
      on_pages("paged-absorbed", "latents in pages that sequences share", latent, absorbed,
       paged_absorbed),
      on_pages("paged-fp8", "pages of rows in e4m3 with scales", every_family, rounds, paged_fp8),
      {"parallel", 10, "matrices and heads cut by outputs over ranks", every_family, exact,
       MakeTransformer(on_ranks<Cut::outputs>),
       {ranks_option}},
      {"parallel-reduce", 10,
       "every second matrix cut along its sums, one all-reduce for each half layer", every_family,
       added_up, MakeTransformer(on_ranks<Cut::sums>), {ranks_option}, Reach::as_made, {},
       LinearInputs::parts},
      {"parallel-experts", 10, "sequences and experts split over ranks, rows exchanged",
       every_family, exact,
       MakeTransformer(on_ranks<Cut::experts>), {ranks_option}},
  };
  return table;
}
// [table]

std::vector<Stage> stages(Family family) {
  std::vector<Stage> result;
  for (const Stage& stage : stages())
    if (std::ranges::find(stage.families, family) != stage.families.end()) result.push_back(stage);
  return result;
}

std::vector<Stage> stages(const Checkpoint& checkpoint) {
  const Json& config = checkpoint.config();
  std::vector<Stage> result = stages(family(config));
  if (shortest_window(model_tensors(checkpoint)) < model_sizes(config).context)
    std::erase_if(result, [](const Stage& stage) { return stage.reach == Reach::everything; });
  return result;
}

const Stage& find_stage(std::string_view name_or_chapter) {
  std::string known;
  for (const Stage& stage : stages()) {
    if (stage.name == name_or_chapter || names_chapter(name_or_chapter, stage.chapter)) return stage;
    known += (known.empty() ? "" : ", ") + std::string(stage.name);
  }
  throw UsageError("there is no stage '" + std::string(name_or_chapter) + "' (stages: " + known + ")");
}

}  // namespace kv
