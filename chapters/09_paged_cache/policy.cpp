#include "chapters/09_paged_cache/policy.hpp"

#include <algorithm>

namespace kv {
namespace {

/// What has been given out so far in a step.
class Allotment {
 public:
  Allotment(std::span<const Candidate> candidates, const StepBudget& budget)
      : candidates_(candidates), left_(budget), tokens_(candidates.size(), 0) {}

  void give(index_t i, index_t tokens) {
    tokens_[i] = std::min(tokens, candidates_[i].pending);
    left_.tokens -= std::min(left_.tokens, tokens_[i]);
    left_.pages -= std::min(left_.pages, candidates_[i].pages);
    if (!candidates_[i].running) --left_.places;
  }
  bool fits(index_t i) const { return left_.places > 0 && candidates_[i].pages <= left_.pages; }
  const StepBudget& left() const { return left_; }
  std::vector<index_t> result() { return std::move(tokens_); }

 private:
  std::span<const Candidate> candidates_;
  StepBudget left_;
  std::vector<index_t> tokens_;
};

}  // namespace

// [continuous]
std::vector<index_t> continuous_batching(std::span<const Candidate> candidates,
                                         const StepBudget& budget) {
  Allotment step(candidates, budget);
  for (index_t i = 0; i < candidates.size(); ++i)
    if (candidates[i].decoding()) step.give(i, 1);
  for (index_t i = 0; i < candidates.size(); ++i)
    if (candidates[i].running && !candidates[i].decoding()) step.give(i, step.left().tokens);
  for (index_t i = 0; i < candidates.size(); ++i) {
    if (candidates[i].running) continue;
    if (step.left().tokens == 0 || !step.fits(i)) break;
    step.give(i, step.left().tokens);
  }
  return step.result();
}
// [continuous]

std::vector<index_t> whole_prompts(std::span<const Candidate> candidates, const StepBudget& budget) {
  Allotment step(candidates, budget);
  for (index_t i = 0; i < candidates.size(); ++i)
    if (candidates[i].running) step.give(i, candidates[i].pending);
  for (index_t i = 0; i < candidates.size(); ++i) {
    if (candidates[i].running) continue;
    if (!step.fits(i)) break;
    step.give(i, candidates[i].pending);
  }
  return step.result();
}

std::vector<index_t> static_batching(std::span<const Candidate> candidates, const StepBudget& budget) {
  const bool runs = std::ranges::any_of(candidates, &Candidate::running);
  if (!runs) return whole_prompts(candidates, budget);
  Allotment step(candidates, budget);
  for (index_t i = 0; i < candidates.size(); ++i)
    if (candidates[i].running) step.give(i, candidates[i].pending);
  return step.result();
}

}  // namespace kv
