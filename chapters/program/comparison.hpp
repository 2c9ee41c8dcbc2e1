#pragma once
/// @file
/// One prompt through several stages, side by side: what `tour` and `compare` show.
#include "chapters/program/session.hpp"

namespace kv {

/// What one stage did.
struct StageRun {
  Stage stage;
  index_t asked;               ///< how many tokens it was to generate
  std::vector<Token> tokens;   ///< generated
  std::vector<float> logits;   ///< that each generated token was drawn from, (T,V) in a row
  std::vector<float> forced;   ///< where it took other tokens: the same for the first stage's, fed to it in place of its own
  double bound = 0.0;          ///< what its logits may differ by, relative to the largest; 0: equal bit for bit
  Metrics metrics;
};

/// Greedy generation, one stage after the other on the same weights.
/// @param max_new_tokens of a stage; of none more than of the first
/// @param on_token is called for the first stage's tokens only
std::vector<StageRun> run_stages(const Checkpoint& checkpoint, const std::vector<Stage>& stages,
                                 const std::vector<Token>& prompt, const std::function<index_t(const Stage&)>& max_new_tokens,
                                 const std::function<void(Token)>& on_token);

/// How a run's logits differ from the first one's, after the same tokens: a text goes on otherwise where two logits are nearly
/// equal, and from then on they are not comparable.
struct Difference {
  bool lossy;                  ///< one of the two forgets or rounds on purpose: nothing is promised
  bool same_tokens;            ///< as far as it was to go
  index_t first_other_token;   ///< number of generated tokens that are the same
  index_t different_logits;    ///< that are not equal bit for bit
  double largest;              ///< relative to the largest logit
  double loss, reference_loss; ///< mean nats for each of the first stage's tokens; 0 when one is not finite
  bool holds;                  ///< what the stage promises; if lossy: that all its logits are numbers
};
Difference difference(const StageRun& run, const StageRun& reference);

/// Cost and equality of every run, for people and for machines.
std::string comparison_table(const std::vector<StageRun>& runs);
std::vector<JsonObject> comparison_json(const std::vector<StageRun>& runs);
/// @throws Error naming the first stage that breaks its promise
void require_promises(const std::vector<StageRun>& runs);

}  // namespace kv
