#include "chapters/05_mixture_of_experts/jobs.hpp"

#include <algorithm>

namespace kv {

// [sort]
List<Job> jobs_of(const Routing& routing, index_t first, index_t last) {
  List<Job> jobs;
  for (index_t n = first; n < last; ++n)
    for (const auto& [expert, weight] : routing[n]) {
      auto job = std::ranges::lower_bound(jobs, expert, {}, &Job::expert);
      if (job == jobs.end() || job->expert != expert) job = jobs.insert(job, {expert, {}});
      job->visits.push_back({n, weight});
    }
  return jobs;
}
// [sort]

Tensor<2> gather(const Tensor<2>& x, const List<Visit>& visits) {
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
