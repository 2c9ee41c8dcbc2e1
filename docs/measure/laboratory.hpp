#pragma once
/// @file
/// What every measurement needs: the shipped model, its sizes, text to feed it.
#include "chapters/decoders.hpp"

namespace kv::book {

/// Sizes of a model; of the MLA family as its latents are expanded.
struct ModelShape {
  index_t layers, width, heads, key_value_heads, head_width, feed_forward_width, vocabulary;
};

/// The shipped model, opened once for all measurements.
class Laboratory {
 public:
  explicit Laboratory(const std::filesystem::path& model);

  const Checkpoint& checkpoint() const { return checkpoint_; }
  /// The folder of all shipped models and texts.
  std::filesystem::path data() const { return checkpoint_.directory().parent_path(); }
  const ModelShape& shape() const { return shape_; }
  /// "tiny-gqa: 5 layers, M 192, ..."
  std::string description() const;

  /// A decoder for `sequences` sequences as long as the model's context.
  Decoder decoder(std::string_view stage, index_t sequences = 1) const;
  index_t context() const { return context_; }
  /// Random token ids, the same ones each time: cost does not depend on what is said.
  std::vector<Token> tokens(index_t count) const;

 private:
  Checkpoint checkpoint_;
  ModelShape shape_;
  index_t context_;
};

/// A whole file.
std::string text_of(const std::filesystem::path& file);

/// Names of the stages of chapters 1 to 3.
inline const std::vector<std::string> first_stages{"uncached", "concat", "preallocated"};

/// FLOPs of all layers for T new tokens, the last of S. A multiplication and an addition count as one each.
struct Flops {
  double projections, attention, feed_forward, head;
  double total() const { return projections + attention + feed_forward + head; }
};
Flops count_flops(const ModelShape& shape, index_t T, index_t S);

}  // namespace kv::book
