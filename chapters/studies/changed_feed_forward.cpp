#include "chapters/studies/changed_feed_forward.hpp"

#include <algorithm>
#include <cmath>

#include "chapters/05_mixture_of_experts/gated_expert.hpp"
#include "chapters/08_quantised_cache/scaled_rows.hpp"
#include "common/tensor/swiglu.hpp"

namespace kv {
namespace {

void change_rows(const ChangeRow& change, Tensor<2>& x) {
  for (index_t n = 0; change && n < x.shape(0); ++n) change(row(x, n));
}

/// DenseFeedForward with a change.
class ChangedFeedForward : public FeedForward {
 public:
  ChangedFeedForward(const Checkpoint& checkpoint, const SwiGluTensors& tensors, FeedForwardChange change)
      : gate_(checkpoint.pack(tensors.gate)), up_(checkpoint.pack(tensors.up)), down_(checkpoint.pack(tensors.down)),
        change_(std::move(change)) {}

  Tensor<2> forward(const Tensor<2>& x) const override {
    Tensor<2> inputs = x;
    change_rows(change_.inputs, inputs);
    Tensor<2> hidden = swiglu((*gate_)(inputs), (*up_)(inputs));
    change_rows(change_.hidden, hidden);
    return (*down_)(hidden);
  }

 private:
  std::shared_ptr<const Linear> gate_, up_, down_;
  FeedForwardChange change_;
};

}  // namespace

MakeFeedForward with_change(const FeedForwardChange& change) {
  return [change](const Checkpoint& checkpoint, index_t layer) -> std::shared_ptr<const FeedForward> {
    const FeedForwardTensors tensors = feed_forward_tensors(checkpoint, layer);
    const auto changed = [checkpoint, change](const SwiGluTensors& dense) {
      return std::make_shared<ChangedFeedForward>(checkpoint, dense, change);
    };
    const auto* const mixture = std::get_if<MixtureTensors>(&tensors);
    if (!mixture) return changed(std::get<SwiGluTensors>(tensors));
    MixtureParts parts = mixture_parts(checkpoint, *mixture);
    parts.experts = std::make_shared<ExpertPool>(mixture->experts.size(),
                                                 [changed, experts = mixture->experts](index_t e) { return changed(experts[e]); });
    if (mixture->shared) parts.shared = changed(*mixture->shared);
    if (mixture->shared_gate) parts.shared = std::make_shared<GatedExpert>(checkpoint.pack(*mixture->shared_gate), parts.shared);
    return std::make_shared<Mixture>(parts);
  };
}

MakeFeedForward with_chosen_experts(index_t chosen) {
  return [chosen](const Checkpoint& checkpoint, index_t layer) {
    FeedForwardTensors tensors = feed_forward_tensors(checkpoint, layer);
    if (auto* const mixture = std::get_if<MixtureTensors>(&tensors)) mixture->rule.chosen = chosen;
    return feed_forward_from(checkpoint, tensors);
  };
}

void zero_by_magnitude(std::span<float> row, double first, double last) {
  List<float*> order;
  for (float& value : row) order.push_back(&value);
  std::ranges::stable_sort(order, std::greater(), [](const float* value) { return std::abs(*value); });
  const auto place = [&](double part) { return static_cast<index_t>(std::lround(part * static_cast<double>(row.size()))); };
  for (index_t i = place(first); i < place(last); ++i) *order[i] = 0.0f;
}

void round_to_fp8(std::span<float> row) {
  const ScaledRows format(DType::f8_e4m3, row.size(), 128);
  std::vector<std::byte> stored(format.bytes());
  format.store(row, stored.data());
  format.widen({stored.data(), stored.size(), 1}, row.data(), row.size());
}

}  // namespace kv
