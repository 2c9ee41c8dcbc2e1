#include "chapters/07_long_context/least_recently_used.hpp"

#include "chapters/07_long_context/group_weights.hpp"

namespace kv {

// [policy]
void LeastRecentlyUsed::after(const Attended& token) {
  const Tensor<2> weights = largest_weights(token);
  for (index_t g = 0; g < last_uses_.heads(); ++g) {
    std::vector<index_t>& uses = last_uses_[g];
    uses.push_back(token.position);
    const float fair_share = 1.0f / static_cast<float>(uses.size());
    for (index_t s = 0; s < uses.size(); ++s)
      if (weights(g, s) > fair_share) uses[s] = token.position;
  }
}

std::vector<index_t> LeastRecentlyUsed::victims(index_t g) const {
  const std::vector<index_t>& uses = last_uses_[g];
  if (uses.size() < budget_) return {};
  return {static_cast<index_t>(std::ranges::min_element(uses) - uses.begin())};
}
// [policy]

}  // namespace kv
