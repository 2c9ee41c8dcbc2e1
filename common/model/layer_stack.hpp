#pragma once
/// @file
/// The transformer around the two inner seams: embedding, layers, final norm, output matrix.
#include <memory>
#include <vector>

#include "common/model/attention.hpp"
#include "common/model/feed_forward.hpp"
#include "common/model/transformer.hpp"
#include "common/tensor/linear.hpp"

namespace kv {

/// One layer: x += attention(norm(x)); x += feed_forward(norm(x)).
struct DecoderLayer {
  Tensor<1> attention_norm;  // (M)
  std::unique_ptr<Attention> attention;
  Tensor<1> feed_forward_norm;  // (M)
  std::shared_ptr<const FeedForward> feed_forward;
};

/// What a stack is made of.
struct LayerStackParts {
  MatrixView embedding;          // (V,M), in place in the checkpoint
  std::shared_ptr<const void> embedding_owner;  ///< keeps `embedding` alive
  std::vector<DecoderLayer> layers;
  Tensor<1> final_norm;                // (M)
  std::shared_ptr<const Linear> head;  // (V,M)
  float norm_epsilon;
};

/// Remembers what its layers remember. Layers may forget in different ways; what one must be fed again, all are fed
/// again. When one fails, those before it have already appended: truncate() evens them out.
class LayerStack : public Transformer {
 public:
  explicit LayerStack(LayerStackParts parts) : parts_(std::move(parts)) {}

  Tensor<2> logits(std::span<const Token> tokens, const Batch& batch, std::span<const index_t> wanted) override;
  index_t length(index_t sequence) const override { return parts_.layers.front().attention->length(sequence); }
  index_t truncate(index_t sequence, index_t length) override;
  index_t share(index_t from, index_t to, index_t length) override;
  void prompt_ends(index_t sequence) override;
  index_t vocabulary() const override { return parts_.head->outputs(); }
  StateBytes state_bytes() const override;

 private:
  Tensor<2> embed(std::span<const Token> tokens) const;
  Tensor<2> run_layers(Tensor<2> x, const Batch& batch);

  LayerStackParts parts_;
};

}  // namespace kv
