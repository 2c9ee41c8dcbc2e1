#pragma once
/// @file
/// Stage `snap`: at the end of a prompt its last tokens say which of its rows stay.
#include <deque>

#include "chapters/07_long_context/forgetting_policy.hpp"

namespace kv {

/// While a prompt is fed every row is held. At its end each head keeps `budget` rows: those of the last w = 32 tokens (half the
/// budget where that is less), and of the others the ones with the largest
/// \f[ \bar A_s = \sum_{|r - s| \le 2} \; \sum_{t \,\in\, \mathrm{last}\; w} \; \sum_{h:\, g(h) = g} p_{t,h,r} \f]
/// Of equals the older. What is generated stays, until the next prompt's end.
/// @see Li et al. 2024, section 4 and listing 1 (SnapKV), arXiv:2404.14469. There the query heads have rows of their own, and
/// the mean of the five is taken in place of their sum.
class Snap : public ForgettingPolicy {
 public:
  static constexpr index_t observed_tokens = 32, neighbours = 2;

  Snap(index_t heads, index_t budget) : budget_(budget), victims_(heads) {}

  void after(const Attended& token) override;
  void prompt_ends(const RowSource& rows) override;
  std::vector<index_t> victims(index_t g) const override { return victims_[g]; }
  index_t spare() const override { return no_limit; }  // but at a prompt's end
  void drop(index_t g, std::span<const index_t>) override { victims_[g].clear(); }
  StateBytes bytes() const override;

 private:
  index_t observed() const { return std::max<index_t>(1, std::min(observed_tokens, budget_ / 2)); }

  index_t budget_;
  float scale_ = 1.0f;
  std::deque<Tensor<3>> queries_;  // (1,H,D), of the last tokens
  std::vector<std::vector<index_t>> victims_;  // (G)
};

}  // namespace kv
