#pragma once
/// @file
/// A model with something changed inside its feed-forward halves, to see what that loses.
#include <functional>

#include "chapters/decoders.hpp"

namespace kv {

/// Changes one row in place. Called from several threads at once.
using ChangeRow = std::function<void(std::span<float> row)>;

/// What is changed: what the maps read. Nothing, where a function is empty.
struct FeedForwardChange {
  ChangeRow inputs;  ///< (M), of gate and up
  ChangeRow hidden;  ///< (F), \f$ \mathrm{silu}(W_{gate}\,x) \cdot W_{up}\,x \f$, what the way down reads
};

/// The checkpoint's own feed-forward halves with this change, in dense layers, in every expert and in shared ones.
MakeFeedForward with_change(const FeedForwardChange& change);

/// The checkpoint's own with another number of experts for each token.
/// @throws std::invalid_argument, when a layer is made, unless the router can choose so many
MakeFeedForward with_chosen_experts(index_t chosen);

/// Numbers become 0, by their place among all of the row, the largest magnitude first.
/// @param first, last parts of the row, 0 ... 1: from 0.1 to 1 all but the largest tenth
void zero_by_magnitude(std::span<float> row, double first, double last);

/// To e4m3 and back, every 128 numbers with a scale of their own: DeepSeek-V3's format of activations.
/// @see DeepSeek-AI 2024, DeepSeek-V3, arXiv:2412.19437, section 3.3.2
void round_to_fp8(std::span<float> row);

}  // namespace kv
