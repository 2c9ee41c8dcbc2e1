#include "chapters/10_tensor_parallel/reduced.hpp"

#include "chapters/03_preallocated_cache/preallocated_attention.hpp"
#include "chapters/04_latent_cache/absorbed_attention.hpp"
#include "chapters/10_tensor_parallel/slices.hpp"

namespace kv {
namespace {

// [reduce]
/// What each rank has made of its part, added up on every rank.
Tensor<2> added_up(Tensor<2> summand, Communicator& line) {
  line.all_reduce({summand.data(), summand.size()});
  return summand;
}

/// Attention of which every rank has some heads.
template <class OwnHeads>
class Reduced : public OwnHeads {
 public:
  template <class... Parts>
  explicit Reduced(Communicator& line, Parts&&... parts)
      : OwnHeads(std::forward<Parts>(parts)...), line_(line) {}

  Tensor<2> forward(const Tensor<2>& x, const Batch& batch) override {
    return added_up(OwnHeads::forward(x, batch), line_);
  }

 private:
  Communicator& line_;
};

/// A feed-forward half of which every rank has a slice of the inner width.
class ReducedFeedForward : public FeedForward {
 public:
  ReducedFeedForward(Communicator& line, std::shared_ptr<const FeedForward> own)
      : line_(line), own_(std::move(own)) {}

  Tensor<2> forward(const Tensor<2>& x) const override { return added_up(own_->forward(x), line_); }

 private:
  Communicator& line_;
  std::shared_ptr<const FeedForward> own_;
};
// [reduce]

// [summand]
/// Rows of gate and up make some hidden numbers; the same columns of down make of these a summand
/// of every output.
SwiGluTensors summand(const SwiGluTensors& tensors, const Communicator& line) {
  const Slice own = split_rows(tensors.gate.weight, line.ranks())[line.rank()];
  return {row_slice(tensors.gate, own), row_slice(tensors.up, own),
          column_slice(tensors.down, own, line.rank() == 0)};
}
// [summand]

MixtureTensors summand(MixtureTensors tensors, const Communicator& line) {
  for (SwiGluTensors& expert : tensors.experts) expert = summand(expert, line);
  if (tensors.shared) tensors.shared = summand(*tensors.shared, line);
  return tensors;
}

}  // namespace

LayerHalves reduced_layer(const Checkpoint& checkpoint, const LayerTensors& layer, const Limits& limits, Communicator& line) {
  const AttentionTensors own = head_slice(layer.attention, line.ranks(), line.rank());
  std::unique_ptr<Attention> attention;
  if (const auto* latent = std::get_if<LatentTensors>(&own))
    attention = std::make_unique<Reduced<AbsorbedAttention>>(line, latent_projection(checkpoint, *latent),
                                                             Absorption(latent->latent_up, latent->sizes), limits);
  else
    attention = std::make_unique<Reduced<PreallocatedAttention>>(line, head_projection(checkpoint, own), limits);
  const auto slice = [&](const auto& tensors) -> FeedForwardTensors { return summand(tensors, line); };
  auto feed_forward = feed_forward_from(checkpoint, std::visit(slice, layer.feed_forward));
  return {std::move(attention), std::make_shared<ReducedFeedForward>(line, std::move(feed_forward))};
}

}  // namespace kv
