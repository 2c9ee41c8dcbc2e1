#pragma once
/// @file
/// The next token, chosen where the logits are: it stays on the device, where the next step reads it.
#include "common/cuda/device.hpp"

namespace kv::cuda {

/// Where a step leaves what the next one begins with.
struct NextRows {
  int *ids, *positions;        ///< (N), of this step, then of the next
  const int* first_positions;  ///< (N), of the first of these steps
  int* tokens;                 ///< (steps,N), all that were chosen
};

/// The most likely token of each row becomes the row's next; of equals the one with the smallest id. Where a logit is NaN or +infinity, or
/// all are -infinity, `tokens` says `no_token`, and the step that follows is worth nothing.  @param logits (N,V)
void most_likely(const float* logits, int rows, int vocabulary, const NextRows& next, cudaStream_t stream);
/// The same where no step follows.  @param tokens (N)
void most_likely(const float* logits, int rows, int vocabulary, int* tokens, cudaStream_t stream);

inline constexpr int no_token = -1;

}  // namespace kv::cuda
