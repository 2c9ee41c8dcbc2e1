#pragma once
/// @file
/// One rank's part of a model, cut in one of three ways.
#include <memory>

#include "chapters/10_tensor_parallel/communicator.hpp"
#include "common/checkpoint/checkpoint.hpp"
#include "common/model/transformer.hpp"

namespace kv {

/// What is cut.
enum class Cut {
  outputs,  ///< stage `parallel`: every matrix by its outputs
  sums,     ///< stage `parallel-reduce`: every second matrix along its sums
  experts,  ///< stage `parallel-experts`: sequences for attention, experts for the other half
};

/// Every rank must get the same calls in the same order. Rank 0 returns the logits that were asked for, the others what they
/// happen to have. Packs this rank's slices and nothing else; speaks to nobody before the first call.
/// Sequences that another rank holds have no length here.
/// @throws UsageError when a rank would get nothing; Error as make_decoder()
std::unique_ptr<Transformer> make_rank_model(Cut cut, const Checkpoint& checkpoint, const Limits& limits, Communicator& line);

}  // namespace kv
