#include "chapters/10_tensor_parallel/exchanged_experts.hpp"

#include "chapters/03_preallocated_cache/preallocated_attention.hpp"
#include "chapters/04_latent_cache/decompressed_attention.hpp"
#include "chapters/05_mixture_of_experts/jobs.hpp"
#include "chapters/10_tensor_parallel/slices.hpp"

namespace kv {
namespace {

using Rows = std::vector<float>;  // one after the other

void append(Rows& rows, std::span<const float> more) { rows.insert(rows.end(), more.begin(), more.end()); }

// [run]
/// This rank's experts on rows that came from everywhere: a routing like any other, in which every
/// row has one expert, with a factor of 1.
/// @param asked rows of each rank, an expert's number before each
/// @return their outputs, in the same order
std::vector<Rows> run_experts(const std::vector<Rows>& asked, const ExpertPool& experts,
                              index_t M) {
  Routing routing;
  Rows together;
  for (const Rows& rows : asked)
    for (index_t at = 0; at < rows.size(); at += 1 + M) {
      routing.push_back({{static_cast<index_t>(rows[at]), 1.0f}});
      append(together, std::span(rows).subspan(at + 1, M));
    }
  Tensor<2> x = empty<2>({routing.size(), M}), y = zeros<2>({routing.size(), M});
  std::ranges::copy(together, x.begin());
  add_chosen(y, routing, experts, x);
  std::vector<Rows> answers;
  const float* next = y.data();
  for (const Rows& rows : asked) {
    answers.emplace_back(next, next + rows.size() / (1 + M) * M);
    next += answers.back().size();
  }
  return answers;
}
// [run]

/// A mixture for tokens that are split over ranks. A rank routes its own tokens, sends each row to every rank that has one
/// of its experts, runs its own experts on what has come, and sends the outputs back; the token's rank adds them up in the
/// router's order. So no bit changes. The shared expert is on every rank. Of all experts only this rank's are ever loaded.
/// Sends 2 M + 1 numbers for each choice of an expert on another rank.
/// @see DeepSeek-AI 2024, section 3.4, arXiv:2412.19437; Lepikhin et al. 2020 for the exchange, arXiv:2006.16668
class ExchangedExperts : public FeedForward {
 public:
  ExchangedExperts(MixtureParts parts, Communicator& line) : parts_(std::move(parts)), line_(line) {
    const std::vector<Slice> slices = split(parts_.experts->count(), line.ranks());
    for (index_t r = 0; r < slices.size(); ++r) owners_.resize(slices[r].end(), r);
  }
  /// Called by all ranks, each with rows of its own; also with none.
  Tensor<2> forward(const Tensor<2>& x) const override;

 private:
  MixtureParts parts_;
  Communicator& line_;
  std::vector<index_t> owners_;  // (E): the rank that has an expert
};

// [exchange]
Tensor<2> ExchangedExperts::forward(const Tensor<2>& x) const {
  const auto& [gate, router, experts, shared] = parts_;
  const index_t N = x.shape(0), M = x.shape(1);
  const Routing routing = router->route((*gate)(x));
  std::vector<Rows> questions(line_.ranks());
  for (index_t n = 0; n < N; ++n)
    for (const Choice& choice : routing[n]) {
      Rows& to = questions[owners_[choice.expert]];
      to.push_back(static_cast<float>(choice.expert));
      append(to, row(x, n));
    }
  const std::vector<Rows> asked = line_.all_to_all(questions);
  const std::vector<Rows> answers = line_.all_to_all(run_experts(asked, *experts, M));

  Tensor<2> y = zeros<2>({N, M});
  std::vector<index_t> next(line_.ranks());
  for (index_t n = 0; n < N; ++n)
    for (const Choice& choice : routing[n]) {  // ascending, as in chapter 5
      const index_t r = owners_[choice.expert];
      add_weighted(row(y, n), choice.weight, std::span(answers[r]).subspan(next[r], M));
      next[r] += M;
    }
  if (shared) y += shared->forward(x);
  return y;
}
// [exchange]

}  // namespace

LayerHalves exchanged_layer(const Checkpoint& checkpoint, const LayerTensors& layer, const Limits& limits, Communicator& line) {
  LayerHalves halves;
  if (const auto* latent = std::get_if<LatentTensors>(&layer.attention))
    halves.attention = std::make_unique<DecompressedAttention>(latent_projection(checkpoint, *latent), limits);
  else
    halves.attention = std::make_unique<PreallocatedAttention>(head_projection(checkpoint, layer.attention), limits);
  if (const auto* mixture = std::get_if<MixtureTensors>(&layer.feed_forward))
    halves.feed_forward = std::make_shared<ExchangedExperts>(mixture_parts(checkpoint, *mixture), line);
  return halves;
}

}  // namespace kv
