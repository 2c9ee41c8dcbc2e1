#include "chapters/05_mixture_of_experts/router.hpp"

namespace kv {

Routing TokenRouter::route(const Tensor<2>& logits) const {
  require_shape("router: logits (N,E)", logits, {logits.shape(0), experts_});
  Routing routing;
  for (index_t n = 0; n < logits.shape(0); ++n) routing.push_back(choose(row(logits, n)));
  return routing;
}

}  // namespace kv
