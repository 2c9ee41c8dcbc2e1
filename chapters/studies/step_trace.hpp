#pragma once
/// @file
/// What a run did, step by step: which rows came into the cache, which moved and which stayed, where the newest token looked,
/// which experts it went to.
///
/// No stage knows of it. Around each layer's attention stands another one that sees what goes in. It makes the rows of all
/// tokens once more from the same inputs, which gives the same bits, and looks where in the layer's memory they are.
#include "chapters/05_mixture_of_experts/router.hpp"
#include "chapters/decoders.hpp"
#include "common/model/metrics.hpp"

namespace kv {

/// One layer in one step.
struct LayerStep {
  /// A letter for each row that there is memory for, by position:
  /// w was not in memory before this step; c was, elsewhere; k has not moved; . is not kept; - no row yet, memory only.
  /// Of a layer that keeps nothing: m for each row that it made and forgot.
  std::string rows;
  index_t fed = 0;        ///< rows that came in
  index_t row_bytes = 0;  ///< of one row, keys and values of all heads or a latent
  StateBytes bytes;       ///< after the step, as the layer says
  Tensor<2> weights = {};  ///< (H,S), of the newest token
  Choices experts = {};    ///< of the newest token; none in a dense layer

  index_t count(char letter) const { return static_cast<index_t>(std::ranges::count(rows, letter)); }
  index_t written() const { return count('w'); }
  index_t copied() const { return count('c'); }
  index_t length() const { return weights.shape(1); }  ///< S
  index_t read() const;  ///< rows that some head of the newest token gives weight to
  /// Of the cache: a copy is a read and a write.
  index_t moved_bytes() const { return bytes.used == 0 ? 0 : row_bytes * (written() + 2 * copied() + read()); }
};

/// One call of the decoder: the prompt, then one token each.
struct Step {
  std::vector<LayerStep> layers;
  std::vector<float> logits;  ///< (V)
  Token next;                 ///< drawn from them
};

/// Greedy generation, as `compare` does it.
struct StepTrace {
  Stage stage;
  std::vector<Step> steps;
  Metrics metrics;
};

/// @throws Error when the stage makes the whole model, or keeps rows in another form than f32 as they were made
StepTrace trace_steps(const Checkpoint& checkpoint, const Stage& stage, const std::vector<Token>& prompt, index_t max_new_tokens);

/// FLOP of a step by the formulas of chapters 1 and 4, over all layers; the output matrix left out.
struct StepFlop {
  double linear;     ///< matrices that a token meets: 2 T times their numbers
  double attention;  ///< scores and sums, and what the form of latents multiplies with W_UK and W_UV
};
/// Numbers in the matrices that one token meets in all layers, without W_UK and W_UV.
index_t numbers_met(const Checkpoint& checkpoint);
StepFlop step_flop(const Checkpoint& checkpoint, const Stage& stage, const Step& step);

}  // namespace kv
