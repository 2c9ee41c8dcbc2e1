#include "chapters/05_mixture_of_experts/observed_router.hpp"

namespace kv {

Routing ObservedRouter::route(const Tensor<2>& logits) const {
  Routing routing = router_->route(logits);
  observe_(routing);
  return routing;
}

Routing AblatedRouter::route(const Tensor<2>& logits) const {
  Routing routing = router_->route(logits);
  for (Choices& token : routing) std::erase_if(token, [this](const Choice& choice) { return choice.expert == expert_; });
  return routing;
}

}  // namespace kv
