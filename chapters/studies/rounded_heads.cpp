#include "chapters/studies/rounded_heads.hpp"

#include <cmath>

#include "chapters/03_preallocated_cache/preallocated_attention.hpp"
#include "chapters/models/family.hpp"
#include "chapters/models/grouped_config.hpp"
#include "chapters/models/latent_config.hpp"
#include "chapters/models/layer_parts.hpp"
#include "chapters/models/model_sizes.hpp"

namespace kv {
namespace {

/// A number without a pattern for every number: splitmix64.
std::uint64_t scrambled(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

class RoundedProjection : public HeadProjection {
 public:
  RoundedProjection(std::shared_ptr<const HeadProjection> heads, double share, index_t layer)
      : heads_(std::move(heads)), share_(share), layer_(layer) {}

  Heads project(const Tensor<2>& x, std::span<const index_t> positions) const override {
    Heads heads = heads_->project(x, positions);
    std::uint64_t kind = 0;
    for (Tensor<3>* each : {&heads.queries, &heads.keys, &heads.values}) round(*each, positions, scrambled(3 * layer_ + kind++));
    return heads;
  }
  Tensor<3> queries(const Tensor<2>& x, std::span<const index_t> at) const override { return heads_->queries(x, at); }
  Tensor<2> output(const Tensor<3>& mixed) const override { return heads_->output(mixed); }
  HeadSizes sizes() const override { return heads_->sizes(); }

 private:
  void round(Tensor<3>& numbers, std::span<const index_t> positions, std::uint64_t seed) const {
    const index_t width = numbers.shape(1) * numbers.shape(2);
    for (index_t n = 0; n < numbers.shape(0); ++n)
      for (index_t i = 0; i < width; ++i) {
        const bool up = scrambled(seed ^ scrambled(positions[n] * width + i)) & 1;
        float& number = numbers.data()[n * width + i];
        number *= static_cast<float>(1.0 + (up ? share_ : -share_));
      }
  }

  std::shared_ptr<const HeadProjection> heads_;
  double share_;
  index_t layer_;
};

index_t reordered_terms(const Json& config) {
  if (family(config) == Family::mla) {
    const LatentSizes sizes = latent_config(config).sizes;
    return sizes.rank + sizes.key_width();
  }
  const HeadSizes heads = grouped_config(config).heads;
  return heads.query_heads * heads.value_width + model_sizes(config).feed_forward_width;
}

}  // namespace

Stage on_rounded_heads(const Json& config) {
  const double share = std::ldexp(std::sqrt(static_cast<double>(reordered_terms(config))), -24);
  Stage stage = find_stage("preallocated");
  stage.make = MakeLayers([=](const Checkpoint& checkpoint, const Limits& limits, const StageOptions&) -> MakeLayer {
    return [=](index_t layer) -> LayerHalves {
      const auto heads = std::make_shared<RoundedProjection>(head_projection(checkpoint, layer), share, layer);
      return {std::make_unique<PreallocatedAttention>(heads, limits)};
    };
  });
  return stage;
}

}  // namespace kv
