#include "chapters/stages.hpp"

#include <algorithm>
#include <charconv>

#include "chapters/01_uncached_attention/uncached_attention.hpp"
#include "chapters/02_concat_cache/concat_attention.hpp"
#include "chapters/03_preallocated_cache/preallocated_attention.hpp"
#include "chapters/04_latent_cache/absorbed_attention.hpp"
#include "chapters/04_latent_cache/decompressed_attention.hpp"
#include "chapters/04_latent_cache/latent_attention.hpp"
#include "chapters/06_cuda_kernels/cuda_stages.hpp"
#include "common/files/error.hpp"

namespace kv {
namespace {

constexpr Equality exact{0.0, ""};
constexpr Equality on_device{1e-4, "sums in the order of threads and tiles; prompts as two bf16 numbers each, 16 bits"};
constexpr Equality absorbed{1e-5, "q.(Wc) is computed as (W'q).c, another order of the sums"};
const std::vector<Family> every_family{Family::gqa, Family::mla};

std::unique_ptr<Attention> make_uncached(const Checkpoint& checkpoint, index_t layer, const Limits&) {
  return std::make_unique<UncachedAttention>(head_projection(checkpoint, layer));
}
std::unique_ptr<Attention> make_concat(const Checkpoint& checkpoint, index_t layer, const Limits& limits) {
  return std::make_unique<ConcatAttention>(head_projection(checkpoint, layer), limits);
}
std::unique_ptr<Attention> make_preallocated(const Checkpoint& checkpoint, index_t layer, const Limits& limits) {
  return std::make_unique<PreallocatedAttention>(head_projection(checkpoint, layer), limits);
}

std::unique_ptr<Attention> make_absorbed(const Checkpoint& checkpoint, index_t layer, const Limits& limits) {
  return std::make_unique<AbsorbedAttention>(latent_projection(checkpoint, layer), absorption(checkpoint, layer), limits);
}
std::unique_ptr<Attention> make_decompressed(const Checkpoint& checkpoint, index_t layer, const Limits& limits) {
  return std::make_unique<DecompressedAttention>(latent_projection(checkpoint, layer), limits);
}
std::unique_ptr<Attention> make_latent(const Checkpoint& checkpoint, index_t layer, const Limits& limits) {
  return std::make_unique<LatentAttention>(latent_projection(checkpoint, layer), absorption(checkpoint, layer), limits);
}

bool names_chapter(std::string_view text, int chapter) {
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() && number == chapter;
}

}  // namespace

// [table]
const std::vector<Stage>& stages() {
  static const std::vector<Stage> table{
      {"uncached", 1, "everything again for every token", every_family, exact, make_uncached},
      {"concat", 2, "keys and values kept, grown by copying", every_family, exact, make_concat},
      {"preallocated", 3, "keys and values written in place", every_family, exact, make_preallocated},
      {"absorbed", 4, "one latent row for all heads, never expanded", {Family::mla}, absorbed, make_absorbed},
      {"decompressed", 4, "latents cached, expanded at every step", {Family::mla}, exact, make_decompressed},
      {"latent", 4, "prompts expanded, decode steps absorbed", {Family::mla}, absorbed, make_latent},
      {"cuda-naive", cuda_chapter, "kernels for the whole model, keys and values of all heads", every_family, on_device, make_cuda_naive},
      {"cuda-absorbed", cuda_chapter, "kernels for the whole model, latents", {Family::mla}, on_device, make_cuda_absorbed},
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

const Stage& find_stage(std::string_view name_or_chapter) {
  std::string known;
  for (const Stage& stage : stages()) {
    if (stage.name == name_or_chapter || names_chapter(name_or_chapter, stage.chapter)) return stage;
    known += (known.empty() ? "" : ", ") + std::string(stage.name);
  }
  throw UsageError("there is no stage '" + std::string(name_or_chapter) + "' (stages: " + known + ")");
}

}  // namespace kv
