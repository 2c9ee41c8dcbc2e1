#include "chapters/05_mixture_of_experts/jobs.hpp"

#include <map>

namespace kv {

// [sort]
std::vector<Job> jobs_of(const Routing& routing, index_t first, index_t last) {
  std::map<index_t, std::vector<Visit>> visits;  // by expert, ascending
  for (index_t n = first; n < last; ++n)
    for (const auto& [expert, weight] : routing[n]) visits[expert].push_back({n, weight});
  std::vector<Job> jobs;
  for (auto& [expert, theirs] : visits) jobs.push_back({expert, std::move(theirs)});
  return jobs;
}
// [sort]

Tensor<2> gather(const Tensor<2>& x, const std::vector<Visit>& visits) {
  Tensor<2> result = empty<2>({visits.size(), x.shape(1)});
  for (index_t i = 0; i < visits.size(); ++i) std::ranges::copy(row(x, visits[i].token), row(result, i).begin());
  return result;
}

// [add_weighted]
void add_weighted(std::span<float> y, float weight, std::span<const float> x) {
  for (index_t m = 0; m < y.size(); ++m) y[m] += weight * x[m];
}
// [add_weighted]

}  // namespace kv
