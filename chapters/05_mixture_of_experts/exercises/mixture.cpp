// An exercise, in place of chapters/05_mixture_of_experts/mixture.cpp: see exercises.md
// Tests: 05_mixture_test
#include "chapters/05_mixture_of_experts/mixture.hpp"

#include "chapters/05_mixture_of_experts/jobs.hpp"
#include "common/tensor/parallel.hpp"

namespace kv {
namespace {

/// Threads take whole experts, with one barrier for all of them; where experts are fewer than threads, all threads work
/// on each expert's matrices in turn.
List<Tensor<2>> run(const List<Job>& jobs, const ExpertPool& experts, const Tensor<2>& x) {
  List<Tensor<2>> outputs(jobs.size());  // of each, (visits,M)
  for (const Job& job : jobs) experts.expert(job.expert);  // not in a thread: packing uses them all
  const index_t together = jobs.size() < threads() ? jobs.size() : 1;
  parallel_for(jobs.size(), together, [&](index_t first, index_t last) {
    for (index_t j = first; j < last; ++j) outputs[j] = experts.expert(jobs[j].expert).forward(gather(x, jobs[j].visits));
  });
  return outputs;
}

/// The factor of an expert for one token: 0 where it was not chosen.
float factor(const Choices& choices, index_t expert) {
  const auto found = std::ranges::find(choices, expert, &Choice::expert);
  return found == choices.end() ? 0.0f : found->weight;
}

const MixtureParts& checked(const MixtureParts& parts) {
  if (parts.gate->outputs() != parts.experts->count())
    throw std::invalid_argument("mixture: the gate has " + std::to_string(parts.gate->outputs()) + " outputs for " +
                                std::to_string(parts.experts->count()) + " experts");
  return parts;
}

}  // namespace

Mixture::Mixture(MixtureParts parts) : parts_(checked(parts)) {}

void add_chosen(Tensor<2>& y, const Routing& routing, const ExpertPool& experts,
                const Tensor<2>& x) {
  const index_t N = x.shape(0);
  // --- yours ---
  // y and x (N,M). jobs_of(routing, first, last) lists each chosen expert with its tokens; run(jobs, ...) gives its
  // outputs (visits,M) for each job. At most tokens_at_once tokens at a time.
  throw std::logic_error("exercise 05 mixture: the sum over experts is yours to write");
  // --- end ---
}

Tensor<2> Mixture::forward(const Tensor<2>& x) const {
  const auto& [gate, router, experts, shared] = parts_;
  Tensor<2> y = zeros<2>({x.shape(0), x.shape(1)});
  add_chosen(y, router->route((*gate)(x)), *experts, x);
  if (shared) y += shared->forward(x);
  return y;
}

DenseMixture::DenseMixture(MixtureParts parts) : parts_(checked(parts)) {}

Tensor<2> DenseMixture::forward(const Tensor<2>& x) const {
  const auto& [gate, router, experts, shared] = parts_;
  Tensor<2> y = zeros<2>({x.shape(0), x.shape(1)});
  const Routing routing = router->route((*gate)(x));
  for (index_t e = 0; e < experts->count(); ++e) {
    const Tensor<2> outputs = experts->expert(e).forward(x);
    for (index_t n = 0; n < x.shape(0); ++n)
      add_weighted(row(y, n), factor(routing[n], e), row(outputs, n));
  }
  if (shared) y += shared->forward(x);
  return y;
}

}  // namespace kv
