#include "chapters/05_mixture_of_experts/expert_pool.hpp"

namespace kv {

ExpertPool::ExpertPool(index_t count, Load load) : load_(std::move(load)), experts_(count) {}

// [expert]
const FeedForward& ExpertPool::expert(index_t e) const {
  const std::lock_guard lock(loading_);
  if (!experts_.at(e)) experts_[e] = load_(e);
  return *experts_[e];
}
// [expert]

index_t ExpertPool::loaded() const {
  const std::lock_guard lock(loading_);
  return static_cast<index_t>(std::ranges::count_if(experts_, [](const auto& expert) { return expert != nullptr; }));
}

}  // namespace kv
