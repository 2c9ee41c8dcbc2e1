#pragma once
/// @file
/// Stage `concat`: keys and values are kept, in tensors that grow by copying. The first cached version everybody writes.
#include <memory>

#include "chapters/01_uncached_attention/head_projection.hpp"
#include "common/model/attention.hpp"

namespace kv {

/// Keeps G * (D + W) floats per token, in two tensors per sequence that are exactly as long as the sequence.
/// Every append allocates new ones and copies the old rows.
class ConcatAttention : public Attention {
 public:
  ConcatAttention(std::shared_ptr<const HeadProjection> projection, const Limits& limits);

  Tensor<2> forward(const Tensor<2>& x, const Batch& batch) override;
  index_t length(index_t sequence) const override;
  index_t truncate(index_t sequence, index_t length) override;
  index_t share(index_t from, index_t to, index_t length) override;
  StateBytes state_bytes() const override;

 private:
  struct Sequence {
    Tensor<3> keys;    // (S,G,D), turned to their positions before they are stored
    Tensor<3> values;  // (S,G,W)
  };
  std::shared_ptr<const HeadProjection> projection_;
  std::vector<Sequence> sequences_;
};

}  // namespace kv
