// An exercise, in place of chapters/01_uncached_attention/plain_attend.cpp: see exercises.md
// Tests: 01_row_source_test
#include "chapters/01_uncached_attention/plain_attend.hpp"

#include <cmath>
#include <vector>

#include "common/tensor/softmax.hpp"

namespace kv {

Tensor<3> plain_attend(const Tensor<3>& queries, const Tensor<3>& keys, const Tensor<3>& values,
                       index_t S) {
  const index_t T = queries.shape(0), H = queries.shape(1), D = queries.shape(2);
  const index_t G = keys.shape(1), W = values.shape(2);
  Tensor<3> output = zeros<3>({T, H, W});
  // --- yours ---
  // queries (T,H,D), keys (C,G,D), values (C,G,W): fill output (T,H,W). Token t stands at position S - T + t. Rows S
  // ... C-1 are unused and may hold anything.
  throw std::logic_error("exercise 01 plain_attend: the formula is yours to write");
  // --- end ---
  return output;
}

}  // namespace kv
