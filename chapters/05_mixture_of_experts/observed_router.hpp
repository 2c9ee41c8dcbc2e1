#pragma once
/// @file
/// Routers around a router: to watch it, and to switch an expert off.
#include <functional>

#include "chapters/05_mixture_of_experts/router.hpp"

namespace kv {

/// Shows every routing to an observer and passes it on unchanged.
class ObservedRouter : public Router {
 public:
  using Observe = std::function<void(const Routing&)>;
  ObservedRouter(std::shared_ptr<const Router> router, Observe observe)
      : router_(std::move(router)), observe_(std::move(observe)) {}

  Routing route(const Tensor<2>& logits) const override;

 private:
  std::shared_ptr<const Router> router_;
  Observe observe_;
};

/// Takes one expert out of every token's list. The weights of the others stay as they were, and no other takes its place:
/// what the layer loses is exactly this expert's term of the sum.
class AblatedRouter : public Router {
 public:
  AblatedRouter(std::shared_ptr<const Router> router, index_t expert) : router_(std::move(router)), expert_(expert) {}

  Routing route(const Tensor<2>& logits) const override;

 private:
  std::shared_ptr<const Router> router_;
  index_t expert_;
};

}  // namespace kv
