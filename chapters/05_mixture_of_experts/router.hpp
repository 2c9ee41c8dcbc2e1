#pragma once
/// @file
/// Who decides which experts a token goes to. A router sees the gate's logits and gives every token a few experts, each
/// with the factor of its output. Every published rule is a class of its own.
///
/// Letters of this chapter: E experts, K chosen for a token; the index is the lower-case letter.
#include "common/tensor/tensor.hpp"

namespace kv {

/// One expert of a token, and the factor of its output.
struct Choice {
  index_t expert;
  float weight;
  bool operator==(const Choice&) const = default;
};

/// The experts of one token, ascending, none twice.
using Choices = List<Choice>;

/// The experts of N tokens.
using Routing = List<Choices>;

struct Router {
  /// @param logits (N,E), the gate's output in f32  @return N lists of choices
  virtual Routing route(const Tensor<2>& logits) const = 0;
  virtual ~Router() = default;
};

/// A router that looks at one token at a time, so that a token's experts do not depend on who else is in the batch.
class TokenRouter : public Router {
 public:
  /// @throws ShapeError unless the logits are (N,E)
  Routing route(const Tensor<2>& logits) const final;

 protected:
  explicit TokenRouter(index_t experts) : experts_(experts) {}
  index_t experts() const { return experts_; }

 private:
  /// @param logits (E)
  virtual Choices choose(std::span<const float> logits) const = 0;
  index_t experts_;
};

}  // namespace kv
