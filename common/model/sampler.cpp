#include "common/model/sampler.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "common/files/error.hpp"

namespace kv {
namespace {

struct Candidate {
  Token token;
  double weight;  // logit at first, then probability
};

/// Damaged weights give logits that no token can be drawn from: say so instead of drawing one.
void require_numbers(std::span<const float> logits) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  if (!std::ranges::all_of(logits, [](float logit) { return logit < infinity; }))  // NaN is not
    throw Error("the logits are not all numbers: are the checkpoint's weights damaged?");
  if (std::ranges::all_of(logits, [](float logit) { return logit == -infinity; }))
    throw Error("all logits are -infinity: generation_config.json forbids every token, or the checkpoint's weights are damaged");
}

/// Candidates from the most likely down; equals by id, so that a draw does not depend on the sorting library.
/// Their weights are relative to the largest logit: no temperature can make them overflow.
std::vector<Candidate> sorted_candidates(std::span<const float> logits, double temperature) {
  const double top = *std::ranges::max_element(logits);
  std::vector<Candidate> result;
  for (index_t v = 0; v < logits.size(); ++v)
    result.push_back({static_cast<Token>(v), (static_cast<double>(logits[v]) - top) / temperature});
  std::ranges::sort(result, [](const Candidate& a, const Candidate& b) {
    return a.weight != b.weight ? a.weight > b.weight : a.token < b.token;
  });
  return result;
}

void softmax(std::vector<Candidate>& candidates) {
  double sum = 0.0;
  for (Candidate& candidate : candidates) sum += candidate.weight = std::exp(candidate.weight);
  for (Candidate& candidate : candidates) candidate.weight /= sum;
}

/// Keeps the shortest prefix whose probabilities reach p.
void keep_top_p(std::vector<Candidate>& candidates, double p) {
  double reached = 0.0;
  index_t kept = 0;
  while (kept < candidates.size() && (kept == 0 || reached < p)) reached += candidates[kept++].weight;
  candidates.resize(kept);
}

/// Keeps what is not much less likely than the first.
void keep_min_p(std::vector<Candidate>& candidates, double p) {
  const double least = p * candidates.front().weight;
  std::erase_if(candidates, [&](const Candidate& candidate) { return candidate.weight < least; });
}

}  // namespace

Sampler::Sampler(const Sampling& sampling) : sampling_(sampling), random_(sampling.seed) {
  if (!(sampling.temperature >= 0.0) || !std::isfinite(sampling.temperature))
    throw Error("temperature must be 0 (greedy) or a positive number");
  if (!(sampling.top_p > 0.0 && sampling.top_p <= 1.0)) throw Error("top-p must lie above 0 and be at most 1");
  if (!(sampling.min_p >= 0.0 && sampling.min_p <= 1.0)) throw Error("min-p must lie between 0 and 1");
}

Token Sampler::next(std::span<const float> logits) {
  require_numbers(logits);
  if (sampling_.temperature == 0.0) return most_likely(logits);
  std::vector<Candidate> candidates = sorted_candidates(logits, sampling_.temperature);
  if (sampling_.top_k != 0 && sampling_.top_k < candidates.size()) candidates.resize(sampling_.top_k);
  softmax(candidates);
  keep_top_p(candidates, sampling_.top_p);
  keep_min_p(candidates, sampling_.min_p);
  double total = 0.0;
  for (const Candidate& candidate : candidates) total += candidate.weight;
  // Not std::uniform_real_distribution: its result differs between standard libraries.
  double rest = static_cast<double>(random_() >> 11) * 0x1p-53 * total;
  for (const Candidate& candidate : candidates)
    if ((rest -= candidate.weight) < 0.0) return candidate.token;
  return candidates.back().token;
}

Token most_likely(std::span<const float> logits) {
  return static_cast<Token>(std::ranges::max_element(logits) - logits.begin());
}

}  // namespace kv
