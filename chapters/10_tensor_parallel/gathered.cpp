#include "chapters/10_tensor_parallel/gathered.hpp"

#include "chapters/03_preallocated_cache/preallocated_attention.hpp"
#include "chapters/05_mixture_of_experts/gated_expert.hpp"
#include "chapters/05_mixture_of_experts/jobs.hpp"
#include "chapters/10_tensor_parallel/slices.hpp"
#include "common/tensor/swiglu.hpp"

namespace kv {
namespace {

/// A matrix of which each rank makes some outputs.
class GatheredLinear {
 public:
  GatheredLinear(const Checkpoint& checkpoint, const LinearView& map, Communicator& line)
      : line_(line), slices_(split_rows(map.weight, line.ranks())), own_(checkpoint.pack(row_slice(map, slices_[line.rank()]))) {}

  // [linear]
  /// This rank's columns of the result.
  Tensor<2> own(const Tensor<2>& x) const { return (*own_)(x); }
  /// Those of all ranks.
  Tensor<2> gathered(const Tensor<2>& own) const { return gather_columns(line_, own, slices_); }
  Tensor<2> operator()(const Tensor<2>& x) const { return gathered(own(x)); }
  // [linear]
  index_t own_outputs() const { return own_->outputs(); }

 private:
  Communicator& line_;
  std::vector<Slice> slices_;  // of each rank
  std::shared_ptr<const Linear> own_;
};

/// The heads of one rank, for a cache of chapter 3 that does not know of other ranks. What they mixed is gathered, each rank
/// makes its rows of the output, and those are gathered: every rank has all M numbers.
/// Sends \f$ (p-1) \f$ times its parts of H W and of M numbers per token.
class GatheredHeads : public HeadProjection {
 public:
  GatheredHeads(const Checkpoint& checkpoint, AttentionTensors tensors, Communicator& line)
      : line_(line), output_(checkpoint, output_matrix(tensors), line) {
    const HeadSizes sizes = head_sizes(tensors);
    for (const Slice& queries : split_heads(sizes, line.ranks()).queries) mixed_.push_back(queries.times(sizes.value_width));
    AttentionTensors own = head_slice(tensors, line.ranks(), line.rank());
    output_matrix(own) = {};
    own_ = head_projection(checkpoint, own);
  }

  Heads project(const Tensor<2>& x, std::span<const index_t> positions) const override { return own_->project(x, positions); }
  Tensor<3> queries(const Tensor<2>& x, std::span<const index_t> positions) const override { return own_->queries(x, positions); }
  HeadSizes sizes() const override { return own_->sizes(); }

  // [output]
  Tensor<2> output(const Tensor<3>& mixed) const override {
    return output_(gather_columns(line_, join_heads(mixed), mixed_));
  }
  // [output]

 private:
  Communicator& line_;
  GatheredLinear output_;
  std::vector<Slice> mixed_;  // of each rank, of H*W
  std::shared_ptr<const HeadProjection> own_;
};

/// A SwiGLU: each rank makes some hidden numbers, all gather them, each makes some outputs.
/// Sends \f$ (p-1) \f$ times its parts of F and of M numbers per token.
struct GatheredFeedForward : FeedForward {
  const GatheredLinear gate, up, down;

  GatheredFeedForward(const Checkpoint& checkpoint, const SwiGluTensors& tensors, Communicator& line)
      : gate(checkpoint, tensors.gate, line), up(checkpoint, tensors.up, line), down(checkpoint, tensors.down, line) {}

  // [feed_forward]
  Tensor<2> own_hidden(const Tensor<2>& x) const { return swiglu(gate.own(x), up.own(x)); }

  Tensor<2> forward(const Tensor<2>& x) const override {
    return down(gate.gathered(own_hidden(x)));
  }
  // [feed_forward]
};

/// Every rank has a slice of every expert and adds up its own outputs in the router's order, as chapter 5 does: no sum is
/// ever made rank by rank. Sends \f$ (p-1) \f$ times its parts of K F (hidden rows of the chosen experts), of the shared
/// expert's F, and of M.
class GatheredMixture : public FeedForward {
 public:
  GatheredMixture(const Checkpoint& checkpoint, const MixtureTensors& tensors, Communicator& line)
      : line_(line), checkpoint_(checkpoint), tensors_(tensors), outputs_(split_rows(tensors.experts.at(0).down.weight, line.ranks())),
        gate_(checkpoint.pack(tensors.gate)), router_(make_router(tensors.rule)), experts_(tensors.experts.size()) {
    if (tensors.shared) shared_.emplace(checkpoint, *tensors.shared, line);
    if (tensors.shared_gate) shared_gate_ = checkpoint.pack(*tensors.shared_gate);
  }
  Tensor<2> forward(const Tensor<2>& x) const override;

 private:
  void add_chosen(Tensor<2>& y, const Tensor<2>& x) const;

  const GatheredFeedForward& expert(index_t e) const {
    if (!experts_[e]) experts_[e].emplace(checkpoint_, tensors_.experts[e], line_);
    return *experts_[e];
  }

  Communicator& line_;
  Checkpoint checkpoint_;
  MixtureTensors tensors_;
  std::vector<Slice> outputs_;          // of each rank, of M
  std::shared_ptr<const Linear> gate_;  // (E,M), on every rank
  std::shared_ptr<const Router> router_;
  mutable std::vector<std::optional<GatheredFeedForward>> experts_;  // packed when they are first chosen
  std::optional<GatheredFeedForward> shared_;
  std::shared_ptr<const Linear> shared_gate_;  // (1,M), or none
};

// [mixture]
/// Hidden rows of all visits are gathered at once. Then every rank adds up its own columns, experts
/// ascending.
void GatheredMixture::add_chosen(Tensor<2>& y, const Tensor<2>& x) const {
  const Routing routing = router_->route((*gate_)(x));
  for (index_t first = 0; first < x.shape(0); first += tokens_at_once) {
    const index_t last = std::min(x.shape(0), first + tokens_at_once);
    const List<Job> jobs = jobs_of(routing, first, last);
    const GatheredLinear& gate = expert(jobs[0].expert).gate;  // cut as those of the others
    Tensor<2> own = empty<2>({(last - first) * tensors_.rule.chosen, gate.own_outputs()});
    index_t next = 0;
    for (const Job& job : jobs) {
      put_rows(own, next, expert(job.expert).own_hidden(gather(x, job.visits)));
      next += job.visits.size();
    }
    const Tensor<2> all = gate.gathered(own);
    next = 0;
    for (const Job& job : jobs) {
      const Tensor<2> outputs = expert(job.expert).down.own(rows(all, next, job.visits.size()));
      for (index_t i = 0; i < job.visits.size(); ++i)
        add_weighted(row(y, job.visits[i].token), job.visits[i].weight, row(outputs, i));
      next += job.visits.size();
    }
  }
}
// [mixture]

Tensor<2> GatheredMixture::forward(const Tensor<2>& x) const {
  Tensor<2> y = zeros<2>({x.shape(0), outputs_[line_.rank()].count});
  add_chosen(y, x);
  if (shared_) {
    Tensor<2> extra = shared_->down.own(shared_->gate.gathered(shared_->own_hidden(x)));
    if (shared_gate_) weigh(extra, *shared_gate_, x);
    y += extra;
  }
  return gather_columns(line_, y, outputs_);
}

}  // namespace

// [outputs]
LayerHalves gathered_layer(const Checkpoint& checkpoint, const LayerTensors& layer,
                           const Limits& limits, Communicator& line) {
  auto heads = std::make_shared<GatheredHeads>(checkpoint, layer.attention, line);
  std::shared_ptr<const FeedForward> other;
  if (const auto* mixture = std::get_if<MixtureTensors>(&layer.feed_forward))
    other = std::make_shared<GatheredMixture>(checkpoint, *mixture, line);
  else
    other = std::make_shared<GatheredFeedForward>(
        checkpoint, std::get<SwiGluTensors>(layer.feed_forward), line);
  return {std::make_unique<PreallocatedAttention>(std::move(heads), limits), std::move(other)};
}
// [outputs]

}  // namespace kv
