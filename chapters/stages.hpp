#pragma once
/// @file
/// The one table of every stage of the book.
#include <memory>
#include <string_view>
#include <variant>
#include <vector>

#include "chapters/models/architectures.hpp"
#include "common/model/attention.hpp"
#include "common/model/transformer.hpp"

namespace kv {

/// How a stage's logits compare with those of stage `uncached`.
struct Equality {
  double tolerance;         ///< relative to the largest logit; 0: equal bit for bit
  std::string_view reason;  ///< why not bit for bit; empty when it is
};

/// How a stage makes one layer's attention; everything around it is the book's own.
using MakeLayerAttention = std::unique_ptr<Attention> (*)(const Checkpoint& checkpoint, index_t layer, const Limits& limits);
/// How a stage makes the whole model.
using MakeTransformer = std::unique_ptr<Transformer> (*)(const Checkpoint& checkpoint, const Limits& limits);

/// One way to attend.
struct Stage {
  std::string_view name;
  int chapter;
  std::string_view idea;
  std::vector<Family> families;  ///< the checkpoints it runs on
  Equality equality;
  std::variant<MakeLayerAttention, MakeTransformer> make;
};

/// All stages, in the order of the book.
const std::vector<Stage>& stages();

/// Those that run on a family of checkpoints.
std::vector<Stage> stages(Family family);

/// A stage by its name or its chapter's number ("03" or "3": the chapter's first stage).
/// @throws UsageError naming the stages there are
const Stage& find_stage(std::string_view name_or_chapter);

}  // namespace kv
