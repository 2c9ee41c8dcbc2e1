#include "chapters/10_tensor_parallel/gathered.hpp"

#include "chapters/05_mixture_of_experts/jobs.hpp"
#include "chapters/05_mixture_of_experts/noaux_tc_router.hpp"
#include "chapters/10_tensor_parallel/slices.hpp"
#include "chapters/models/layer_parts.hpp"
#include "common/tensor/swiglu.hpp"

namespace kv {
namespace {

/// Bounds the memory for hidden rows in a long prompt.
constexpr index_t tokens_at_once = 1024;

std::shared_ptr<const HeadProjection> own_heads(const Checkpoint& checkpoint, const AttentionTensors& tensors, Communicator& line) {
  return head_projection(checkpoint, head_slice(tensors, split_heads(head_sizes(tensors), line.ranks()), line.rank()));
}

}  // namespace

GatheredHeads::GatheredHeads(const Checkpoint& checkpoint, const AttentionTensors& tensors, Communicator& line)
    : line_(line), own_(own_heads(checkpoint, tensors, line)), rows_(split_rows(output_matrix(tensors).weight, line.ranks())) {
  output_ = checkpoint.pack(row_slice(output_matrix(tensors), rows_[line.rank()]));
  const HeadSizes sizes = head_sizes(tensors);
  for (const Slice& heads : split_heads(sizes, line.ranks()).queries)
    mixed_columns_.push_back({heads.first * sizes.value_width, heads.count * sizes.value_width});
}

// [output]
Tensor<2> GatheredHeads::output(const Tensor<3>& mixed) const {
  const Tensor<2> of_all_heads = gather_columns(line_, join_heads(mixed), mixed_columns_);
  return gather_columns(line_, (*output_)(of_all_heads), rows_);
}
// [output]

GatheredFeedForward::GatheredFeedForward(const Checkpoint& checkpoint, const SwiGluTensors& tensors, Communicator& line)
    : line_(line), hidden_(split_rows(tensors.gate.weight, line.ranks())), outputs_(split_rows(tensors.down.weight, line.ranks())) {
  gate_ = checkpoint.pack(row_slice(tensors.gate, hidden_[line.rank()]));
  up_ = checkpoint.pack(row_slice(tensors.up, hidden_[line.rank()]));
  down_ = checkpoint.pack(row_slice(tensors.down, outputs_[line.rank()]));
}

// [feed_forward]
Tensor<2> GatheredFeedForward::own_hidden(const Tensor<2>& x) const {
  return swiglu((*gate_)(x), (*up_)(x));
}

Tensor<2> GatheredFeedForward::gathered_hidden(const Tensor<2>& own) const {
  return gather_columns(line_, own, hidden_);
}

Tensor<2> GatheredFeedForward::own_outputs(const Tensor<2>& hidden) const {
  return (*down_)(hidden);
}

Tensor<2> GatheredFeedForward::forward(const Tensor<2>& x) const {
  return gather_columns(line_, own_outputs(gathered_hidden(own_hidden(x))), outputs_);
}
// [feed_forward]

GatheredMixture::GatheredMixture(const Checkpoint& checkpoint, const MixtureTensors& tensors, Communicator& line)
    : line_(line), checkpoint_(checkpoint), tensors_(tensors),
      outputs_(split_rows(tensors.experts.at(0).down.weight, line.ranks())), gate_(checkpoint.pack(tensors.gate)),
      router_(make_router(tensors.rule)), experts_(tensors.experts.size()) {
  if (tensors.shared) shared_ = std::make_unique<GatheredFeedForward>(checkpoint, *tensors.shared, line);
  if (tensors.shared_gate) shared_gate_ = checkpoint.pack(*tensors.shared_gate);
}

const GatheredFeedForward& GatheredMixture::expert(index_t e) const {
  if (!experts_.at(e)) experts_[e] = std::make_unique<GatheredFeedForward>(checkpoint_, tensors_.experts[e], line_);
  return *experts_[e];
}

Tensor<2> GatheredMixture::forward(const Tensor<2>& x) const {
  Tensor<2> y = zeros<2>({x.shape(0), outputs_[line_.rank()].count});
  add_chosen(y, x);
  if (shared_) add_shared(y, x);
  return gather_columns(line_, y, outputs_);
}

// [mixture]
/// Hidden rows of all visits are gathered at once. Then every rank adds up its own columns, experts
/// ascending.
void GatheredMixture::add_chosen(Tensor<2>& y, const Tensor<2>& x) const {
  const Routing routing = router_->route((*gate_)(x));
  for (index_t first = 0; first < x.shape(0); first += tokens_at_once) {
    const index_t last = std::min(x.shape(0), first + tokens_at_once);
    const List<Job> jobs = jobs_of(routing, first, last);
    index_t visits = 0, next = 0;
    for (const Job& job : jobs) visits += job.visits.size();
    Tensor<2> own;
    for (const Job& job : jobs) {
      const Tensor<2> hidden = expert(job.expert).own_hidden(gather(x, job.visits));
      if (next == 0) own = empty<2>({visits, hidden.shape(1)});
      put_rows(own, next, hidden);
      next += job.visits.size();
    }
    const Tensor<2> all = expert(jobs[0].expert).gathered_hidden(own);
    next = 0;
    for (const Job& job : jobs) {
      const Tensor<2> outputs = expert(job.expert).own_outputs(rows(all, next, job.visits.size()));
      for (index_t i = 0; i < job.visits.size(); ++i)
        add_weighted(row(y, job.visits[i].token), job.visits[i].weight, row(outputs, i));
      next += job.visits.size();
    }
  }
}
// [mixture]

void GatheredMixture::add_shared(Tensor<2>& y, const Tensor<2>& x) const {
  Tensor<2> extra = shared_->own_outputs(shared_->gathered_hidden(shared_->own_hidden(x)));
  if (shared_gate_) {
    const Tensor<2> gate = (*shared_gate_)(x);
    const List<float> factors = sigmoid({gate.data(), gate.size()});
    for (index_t n = 0; n < extra.shape(0); ++n)
      for (float& value : row(extra, n)) value *= factors[n];
  }
  for (index_t i = 0; i < y.size(); ++i) y.data()[i] += extra.data()[i];
}

}  // namespace kv
