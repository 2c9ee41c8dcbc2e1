#include "chapters/10_tensor_parallel/exchanged_experts.hpp"

#include "chapters/05_mixture_of_experts/jobs.hpp"
#include "chapters/10_tensor_parallel/slices.hpp"

namespace kv {
namespace {

using Rows = std::vector<float>;  // one after the other

void append(Rows& rows, std::span<const float> more) { rows.insert(rows.end(), more.begin(), more.end()); }

// [run]
/// This rank's experts on rows that came from everywhere: a routing like any other, in which every
/// row has one expert.
/// @param asked rows of each rank, an expert's number before each
/// @return their outputs, in the same order
std::vector<Rows> run_experts(const std::vector<Rows>& asked, const ExpertPool& experts,
                              index_t M) {
  Routing routing;
  Rows together;
  for (const Rows& rows : asked)
    for (index_t at = 0; at < rows.size(); at += 1 + M) {
      routing.push_back({{static_cast<index_t>(rows[at]), 1.0f}});
      append(together, std::span(rows).subspan(at + 1, M));
    }
  Tensor<2> x = empty<2>({routing.size(), M}), y = x;
  std::ranges::copy(together, x.begin());
  for (const Job& job : jobs_of(routing, 0, routing.size())) {
    const Tensor<2> outputs = experts.expert(job.expert).forward(gather(x, job.visits));
    for (index_t i = 0; i < job.visits.size(); ++i)
      std::ranges::copy(row(outputs, i), row(y, job.visits[i].token).begin());
  }
  std::vector<Rows> answers;
  const float* next = y.data();
  for (const Rows& rows : asked) {
    answers.emplace_back(next, next + rows.size() / (1 + M) * M);
    next += answers.back().size();
  }
  return answers;
}
// [run]

/// The rank that has an expert.
index_t owner(const std::vector<Slice>& experts, index_t e) {
  index_t r = 0;
  while (e >= experts[r].end()) ++r;
  return r;
}

}  // namespace

ExchangedExperts::ExchangedExperts(MixtureParts parts, Communicator& line) : parts_(std::move(parts)), line_(line) {}

// [exchange]
Tensor<2> ExchangedExperts::forward(const Tensor<2>& x) const {
  const auto& [gate, router, experts, shared] = parts_;
  const index_t N = x.shape(0), M = x.shape(1);
  const std::vector<Slice> slices = split(experts->count(), line_.ranks());
  const Routing routing = router->route((*gate)(x));
  std::vector<Rows> questions(line_.ranks());
  for (index_t n = 0; n < N; ++n)
    for (const Choice& choice : routing[n]) {
      Rows& to = questions[owner(slices, choice.expert)];
      to.push_back(static_cast<float>(choice.expert));
      append(to, row(x, n));
    }
  const std::vector<Rows> asked = line_.all_to_all(questions);
  const std::vector<Rows> answers = line_.all_to_all(run_experts(asked, *experts, M));

  Tensor<2> y = zeros<2>({N, M});
  std::vector<index_t> next(line_.ranks());
  for (index_t n = 0; n < N; ++n)
    for (const Choice& choice : routing[n]) {  // ascending, as in chapter 5
      const index_t r = owner(slices, choice.expert);
      add_weighted(row(y, n), choice.weight, std::span(answers[r]).subspan(next[r], M));
      next[r] += M;
    }
  if (!shared) return y;
  const Tensor<2> extra = shared->forward(x);
  for (index_t i = 0; i < y.size(); ++i) y.data()[i] += extra.data()[i];
  return y;
}
// [exchange]

}  // namespace kv
