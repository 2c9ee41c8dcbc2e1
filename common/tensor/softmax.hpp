#pragma once
/// @file
#include <limits>
#include <span>

namespace kv {

/// Softmax in place. \f$ x_i \leftarrow e^{x_i - \max x} / \sum_j e^{x_j - \max x} \f$
/// The order of the sum depends on the length of the row alone (16 partial sums, element i to sum i mod 16, a fixed
/// tree), and `exp` gives the same bits in a vector lane and in the tail. An empty row stays empty.
/// -infinity is allowed and gives 0; a row of nothing else has no softmax and becomes NaN, as does one with a NaN in it.
void softmax(std::span<float> x);

/// Softmax of a row that comes in blocks ("online softmax"): nobody has to hold the whole row. What was summed with
/// weights so far is brought to the new maximum by one factor. Where the blocks begin decides the bits, so they must
/// begin at fixed places of the row.
/// @see Milakov and Gimelshein 2018, algorithm 3, arXiv:1805.02867
class RunningSoftmax {
 public:
  /// Replaces the next scores x by their weights \f$ e^{x-m} \f$, m the maximum so far.
  /// @return \f$ e^{m' - m} \f$ with m' the maximum before: the factor for everything summed until now
  float next(std::span<float> scores);
  /// The sum of all weights so far, relative to the maximum so far.
  float sum() const { return sum_; }

 private:
  float maximum_ = -std::numeric_limits<float>::infinity();
  float sum_ = 0;
};

}  // namespace kv
