#pragma once
/// @file
/// Stage `lru`: the row that nobody has looked at for the longest time goes.
#include "chapters/07_long_context/row_notes.hpp"
#include "chapters/07_long_context/forgetting_policy.hpp"

namespace kv {

/// What an operating system does with pages, done with rows. Pages are touched or not; a softmax touches every row, so a use
/// has to be defined: a row is used by a token that gives it more than its fair share, 1 / rows seen, in any of the heads that
/// share it. A row is used by its own token. A head that holds its budget of rows gives up the one whose last use is the
/// longest ago; of equals the oldest.
class LeastRecentlyUsed : public ForgettingPolicy {
 public:
  LeastRecentlyUsed(index_t heads, index_t budget, index_t room) : budget_(budget), last_uses_(heads, room) {}

  void after(const Attended& token) override;
  std::vector<index_t> victims(index_t g) const override;
  index_t spare() const override { return budget_ - std::min(budget_, last_uses_[0].size()); }
  void drop(index_t g, std::span<const index_t> indices) override { last_uses_.drop(g, indices); }
  StateBytes bytes() const override { return last_uses_.bytes(); }

 private:
  index_t budget_;
  RowNotes<index_t> last_uses_;  // positions of tokens
};

}  // namespace kv
