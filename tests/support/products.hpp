#pragma once
#include <cmath>
#include <vector>

#include "common/tensor/linear.hpp"
#include "tests/support/catch.hpp"

namespace kv::test {

/// multiply() into a poisoned buffer with room around every row; checks that the room stays.
inline std::vector<float> product(const Linear& linear, const std::vector<float>& x, index_t rows) {
  const index_t outputs = linear.outputs(), stride = outputs + 5;
  std::vector<float> padded(rows * stride + 64, -1e30f), y;
  linear.multiply(rows, x.data(), linear.inputs(), padded.data(), stride);
  for (index_t i = 0; i < padded.size(); ++i) {
    const bool result = i < rows * stride && i % stride < outputs;
    if (result) y.push_back(padded[i]);
    if (!result && padded[i] != -1e30f) FAIL("wrote at " << i << ", outside the " << outputs << " outputs of a row");
  }
  return y;
}

}  // namespace kv::test
