#include "chapters/05_mixture_of_experts/mixture.hpp"

#include "common/tensor/parallel.hpp"

namespace kv {
namespace {

/// Bounds the memory for the experts' outputs in a long prompt.
constexpr index_t tokens_at_once = 1024;

/// A token of one expert, and the factor of the expert's output.
struct Visit {
  index_t token;
  float weight;
};

/// One expert and the tokens that go to it, ascending.
struct Job {
  const FeedForward* expert;
  std::vector<Visit> visits;
  Tensor<2> outputs = {};  // (visits,M)
};

// [sort]
/// The routing of tokens first ... last-1 turned around: a job for every expert that one of them has chosen, ascending.
/// Others are not even loaded.
std::vector<Job> jobs_of(const Routing& routing, index_t first, index_t last, const ExpertPool& experts) {
  std::vector<std::vector<Visit>> visits(experts.count());
  for (index_t n = first; n < last; ++n)
    for (const auto& [expert, weight] : routing[n]) visits.at(expert).push_back({n, weight});
  std::vector<Job> jobs;
  for (index_t e = 0; e < visits.size(); ++e)
    if (!visits[e].empty()) jobs.push_back({&experts.expert(e), std::move(visits[e])});
  return jobs;
}
// [sort]

Tensor<2> gather(const Tensor<2>& x, const std::vector<Visit>& visits) {
  Tensor<2> result = empty<2>({visits.size(), x.shape(1)});
  for (index_t i = 0; i < visits.size(); ++i) std::ranges::copy(row(x, visits[i].token), row(result, i).begin());
  return result;
}

/// Threads take whole experts, with one barrier for all of them; where experts are fewer than threads, all threads work
/// on each expert's matrices in turn.
void run(std::vector<Job>& jobs, const Tensor<2>& x) {
  const index_t together = jobs.size() < threads() ? jobs.size() : 1;
  parallel_for(jobs.size(), together, [&](index_t first, index_t last) {
    for (index_t j = first; j < last; ++j) jobs[j].outputs = jobs[j].expert->forward(gather(x, jobs[j].visits));
  });
}

// [add_weighted]
/// y += weight * x. Not fused: the product of a factor 0 must be a zero, and that of a factor 1 exact.
void add_weighted(std::span<float> y, float weight, std::span<const float> x) {
  for (index_t m = 0; m < y.size(); ++m) y[m] += weight * x[m];
}
// [add_weighted]

void add_shared(Tensor<2>& y, const FeedForward* shared, const Tensor<2>& x) {
  if (!shared) return;
  const Tensor<2> extra = shared->forward(x);
  for (index_t i = 0; i < y.size(); ++i) y.data()[i] += extra.data()[i];
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

// [grouped]
Tensor<2> Mixture::forward(const Tensor<2>& x) const {
  const auto& [gate, router, experts, shared] = parts_;
  const Routing routing = router->route((*gate)(x));
  const index_t N = x.shape(0);
  Tensor<2> y = zeros<2>({N, x.shape(1)});
  for (index_t first = 0; first < N; first += tokens_at_once) {
    std::vector<Job> jobs = jobs_of(routing, first, std::min(N, first + tokens_at_once), *experts);
    run(jobs, x);
    for (const Job& job : jobs)
      for (index_t i = 0; i < job.visits.size(); ++i)
        add_weighted(row(y, job.visits[i].token), job.visits[i].weight, row(job.outputs, i));
  }
  add_shared(y, shared.get(), x);
  return y;
}
// [grouped]

DenseMixture::DenseMixture(MixtureParts parts) : parts_(checked(parts)) {}

// [dense]
Tensor<2> DenseMixture::forward(const Tensor<2>& x) const {
  const auto& [gate, router, experts, shared] = parts_;
  Tensor<2> y = zeros<2>({x.shape(0), x.shape(1)});
  const Routing routing = router->route((*gate)(x));
  for (index_t e = 0; e < experts->count(); ++e) {
    const Tensor<2> outputs = experts->expert(e).forward(x);
    for (index_t n = 0; n < x.shape(0); ++n) add_weighted(row(y, n), factor(routing[n], e), row(outputs, n));
  }
  add_shared(y, shared.get(), x);
  return y;
}
// [dense]

}  // namespace kv
