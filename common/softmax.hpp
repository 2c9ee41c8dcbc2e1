#pragma once
/// @file
#include <span>

namespace kv {

/// Softmax in place. \f$ x_i \leftarrow e^{x_i - \max x} / \sum_j e^{x_j - \max x} \f$
/// The order of the sum depends on the length of the row alone (16 partial sums, element i to sum i mod 16, a fixed
/// tree), and `exp` gives the same bits in a vector lane and in the tail. An empty row stays empty.
/// -infinity is allowed and gives 0; a row of nothing else has no softmax and becomes NaN, as does one with a NaN in it.
void softmax(std::span<float> x);

}  // namespace kv
