#pragma once
/// @file
/// Who is served in a step: the one function of a scheduler that one would want to replace.
#include <functional>
#include <span>
#include <vector>

#include "common/tensor/tensor.hpp"

namespace kv {

/// What a policy knows of a sequence.
struct Candidate {
  bool running;     ///< it has a place in the batch, and pages
  index_t pending;  ///< tokens to be fed before its next one can be drawn: 1 when it decodes
  index_t pages;    ///< it takes from the pool to be fed all of them

  bool decoding() const { return running && pending == 1; }
};

/// What there is to give.
struct StepBudget {
  index_t tokens;  ///< in this step
  index_t places;  ///< free ones in the batch
  index_t pages;   ///< that are free, or kept for nobody
};

/// How many tokens of each candidate are fed in this step; 0: none. One that is waiting and is given some, is admitted.
/// A policy is a matter of speed only: no bit of any answer depends on it. A scheduler takes pages away from the latest
/// arrival when a policy has promised too many, so even a careless one gets everybody served.
/// @param candidates in the order of arrival  @return one number for each, at most its `pending`
using Policy = std::function<std::vector<index_t>(std::span<const Candidate> candidates, const StepBudget& budget)>;

/// Continuous batching with prompts in chunks: first a token for everybody who decodes, so that no prompt delays them; then
/// the prompts that have begun; then, in the order of arrival, new ones for which there are pages. Nobody overtakes.
/// @see Yu et al. 2022 (Orca), section 3; Agrawal et al. 2023 (Sarathi), arXiv:2308.16369
std::vector<index_t> continuous_batching(std::span<const Candidate> candidates, const StepBudget& budget);

/// The same, but a prompt is fed in one step, however long: those who decode wait for it.
std::vector<index_t> whole_prompts(std::span<const Candidate> candidates, const StepBudget& budget);

/// A batch starts together, and the next one when all of it has ended: what there was before continuous batching.
std::vector<index_t> static_batching(std::span<const Candidate> candidates, const StepBudget& budget);

}  // namespace kv
