#pragma once
/// @file
/// Stage `heavy-hitters`: the rows that got the most attention so far, and the recent ones.
#include "chapters/07_long_context/row_notes.hpp"
#include "chapters/07_long_context/forgetting_policy.hpp"

namespace kv {

/// A head that holds its budget of rows gives one up before the next: of those that are not among the latest budget / 2, the
/// one with the least
/// \f[ A_s = \sum_{t \ge s} \; \sum_{h:\, g(h) = g} p_{t,h,s} \f]
/// where \f$ p_{t,h,s} \f$ is the weight that token t put on row s, over the rows that it saw. Of equals the oldest.
/// @see Zhang et al. 2023, section 4 (H2O), arXiv:2306.14048. There the query heads have rows of their own.
class HeavyHitters : public ForgettingPolicy {
 public:
  HeavyHitters(index_t heads, index_t budget, index_t room) : budget_(budget), sums_(heads, room) {}

  void after(const Attended& token) override;
  std::vector<index_t> victims(index_t g) const override;
  index_t spare() const override { return budget_ - std::min(budget_, sums_[0].size()); }
  void drop(index_t g, std::span<const index_t> indices) override { sums_.drop(g, indices); }
  StateBytes bytes() const override { return sums_.bytes(); }

 private:
  index_t budget_;
  RowNotes<double> sums_;
};

}  // namespace kv
