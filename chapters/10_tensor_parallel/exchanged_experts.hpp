#pragma once
/// @file
/// Whole experts on every rank: rows of tokens travel to the experts that they have chosen, and back.
#include "chapters/05_mixture_of_experts/mixture.hpp"
#include "chapters/10_tensor_parallel/communicator.hpp"

namespace kv {

/// A mixture for tokens that are split over ranks. A rank routes its own tokens, sends each row to every rank that has one
/// of its experts, runs its own experts on what has come, and sends the outputs back; the token's rank adds them up in the
/// router's order. So no bit changes. The shared expert is on every rank.
/// Sends 2 M + 1 numbers for each choice of an expert on another rank.
/// @see DeepSeek-AI 2024, section 3.4, arXiv:2412.19437; Lepikhin et al. 2020 for the exchange, arXiv:2006.16668
class ExchangedExperts : public FeedForward {
 public:
  /// @param parts with all E experts, of which only this rank's are ever loaded
  ExchangedExperts(MixtureParts parts, Communicator& line);
  /// Called by all ranks, each with rows of its own; also with none.
  Tensor<2> forward(const Tensor<2>& x) const override;

 private:
  MixtureParts parts_;
  Communicator& line_;
};

}  // namespace kv
