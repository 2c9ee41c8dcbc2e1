#include "chapters/07_long_context/heavy_hitters.hpp"

#include "chapters/07_long_context/group_weights.hpp"

namespace kv {

// [policy]
void HeavyHitters::after(const Attended& token) {
  const Tensor<2> weights = added_weights(token);
  for (index_t g = 0; g < sums_.heads(); ++g) {
    sums_[g].push_back(0.0);
    for (index_t s = 0; s < sums_[g].size(); ++s) sums_[g][s] += static_cast<double>(weights(g, s));
  }
}

std::vector<index_t> HeavyHitters::victims(index_t g) const {
  const std::vector<double>& sums = sums_[g];
  if (sums.size() < budget_) return {};
  const auto recent = sums.end() - static_cast<std::ptrdiff_t>(budget_ / 2);
  return {static_cast<index_t>(std::min_element(sums.begin(), recent) - sums.begin())};
}
// [policy]

}  // namespace kv
