#include "chapters/10_tensor_parallel/exchanged_experts.hpp"

#include <numeric>

#include "chapters/05_mixture_of_experts/jobs.hpp"
#include "chapters/10_tensor_parallel/slices.hpp"

namespace kv {
namespace {

using Rows = std::vector<float>;  // of M numbers, one after the other

std::vector<ConstBytes> all_bytes(const std::vector<Rows>& rows) {
  std::vector<ConstBytes> result;
  for (const Rows& each : rows) result.push_back(std::as_bytes(std::span(each)));
  return result;
}
std::vector<Bytes> all_bytes(std::vector<Rows>& rows) {
  std::vector<Bytes> result;
  for (Rows& each : rows) result.push_back(std::as_writable_bytes(std::span(each)));
  return result;
}

/// How many rows of each rank go to each expert, as far as this rank needs to know.
struct RowCounts {
  std::vector<std::uint32_t> sent;                   // (E), by this rank
  std::vector<std::vector<std::uint32_t>> received;  // by rank, for its own experts
};

RowCounts exchange_counts(Communicator& line, const std::vector<Job>& jobs, const std::vector<Slice>& experts) {
  const index_t own = experts[line.rank()].count;
  RowCounts counts{std::vector<std::uint32_t>(experts.back().end()), {}};
  for (const Job& job : jobs) counts.sent[job.expert] = static_cast<std::uint32_t>(job.visits.size());
  counts.received.assign(line.ranks(), std::vector<std::uint32_t>(own));
  std::vector<ConstBytes> out;
  std::vector<Bytes> in;
  for (index_t r = 0; r < line.ranks(); ++r) {
    out.push_back(std::as_bytes(std::span(counts.sent).subspan(experts[r].first, experts[r].count)));
    in.push_back(std::as_writable_bytes(std::span(counts.received[r])));
  }
  line.all_to_all(out, in);
  return counts;
}

/// Each of this rank's experts on the rows that came from everywhere; outputs take the place of the rows.
void run_own(std::vector<Rows>& rows, const RowCounts& counts, Slice own, const ExpertPool& experts, index_t M) {
  std::vector<float*> at;  // in the rows of each rank
  for (Rows& each : rows) at.push_back(each.data());
  for (index_t e = 0; e < own.count; ++e) {
    Rows x;
    for (index_t r = 0; r < rows.size(); ++r) x.insert(x.end(), at[r], at[r] + counts.received[r][e] * M);
    if (x.empty()) continue;
    Tensor<2> together = empty<2>({x.size() / M, M});
    std::ranges::copy(x, together.begin());
    const Tensor<2> y = experts.expert(own.first + e).forward(together);
    const float* next = y.data();
    for (index_t r = 0; r < rows.size(); ++r) {
      const index_t size = counts.received[r][e] * M;
      at[r] = std::copy_n(next, size, at[r]);
      next += size;
    }
  }
}

}  // namespace

ExchangedExperts::ExchangedExperts(MixtureParts parts, Communicator& line) : parts_(std::move(parts)), line_(line) {}

// [exchange]
Tensor<2> ExchangedExperts::forward(const Tensor<2>& x) const {
  const auto& [gate, router, experts, shared] = parts_;
  const index_t N = x.shape(0), M = x.shape(1);
  const std::vector<Slice> slices = split(experts->count(), line_.ranks());
  const std::vector<Job> jobs = jobs_of(router->route((*gate)(x)), 0, N);
  const RowCounts counts = exchange_counts(line_, jobs, slices);

  std::vector<Rows> own(line_.ranks()), theirs(line_.ranks());  // rows of own tokens by where they go, and of others' tokens
  for (index_t r = 0; r < line_.ranks(); ++r) {
    for (const Job& job : jobs)
      for (const Visit& visit : job.visits)
        if (job.expert >= slices[r].first && job.expert < slices[r].end())
          own[r].insert(own[r].end(), row(x, visit.token).begin(), row(x, visit.token).end());
    theirs[r].resize(M * std::accumulate(counts.received[r].begin(), counts.received[r].end(), index_t{0}));
  }
  line_.all_to_all(all_bytes(std::as_const(own)), all_bytes(theirs));
  run_own(theirs, counts, slices[line_.rank()], *experts, M);
  line_.all_to_all(all_bytes(std::as_const(theirs)), all_bytes(own));

  Tensor<2> y = zeros<2>({N, M});
  std::vector<const float*> next;
  for (const Rows& rows : own) next.push_back(rows.data());
  index_t r = 0;
  for (const Job& job : jobs) {  // experts ascending: so are the ranks that have them
    while (job.expert >= slices[r].end()) ++r;
    for (const Visit& visit : job.visits) {
      add_weighted(row(y, visit.token), visit.weight, {next[r], M});
      next[r] += M;
    }
  }
  if (!shared) return y;
  const Tensor<2> extra = shared->forward(x);
  for (index_t i = 0; i < y.size(); ++i) y.data()[i] += extra.data()[i];
  return y;
}
// [exchange]

}  // namespace kv
