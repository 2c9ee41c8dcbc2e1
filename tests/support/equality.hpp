#pragma once
/// @file
/// Two kinds of equal. `CHECK(exact(a, b))`: the same bits. `CHECK(close(a, b, 1e-5, "why not exact"))`: relative to the
/// largest expected value. Both print the worst place, its two values, how far apart they are, and how many differ.
/// NaN is never equal to anything: a NaN in a result is always a defect here.
#include <ostream>
#include <string>
#include <string_view>

#include "common/tensor/tensor.hpp"

namespace kv::test {

/// Tensors of the oracle.
template <std::size_t N>
using Doubles = xt::xtensor<double, N>;

/// What a comparison found.
struct Comparison {
  bool equal;
  std::string text;
  explicit operator bool() const { return equal; }
};
inline std::ostream& operator<<(std::ostream& out, const Comparison& comparison) { return out << comparison.text; }

/// Row-major values and their shape; doubles hold every float exactly.
struct Values {
  template <class T>
  explicit Values(const T& tensor)
      : shape(tensor.shape().begin(), tensor.shape().end()), values(tensor.begin(), tensor.end()) {}
  std::vector<index_t> shape;
  std::vector<double> values;
};

/// Equal within tolerance * (the largest expected magnitude); 0: the same numbers, -0 and 0 told apart.
Comparison compare(const Values& found, const Values& expected, double tolerance, std::string_view reason);

template <std::size_t N>
Comparison exact(const Tensor<N>& found, const Tensor<N>& expected) {
  return compare(Values(found), Values(expected), 0.0, "");
}

template <std::size_t N, class Expected>
Comparison close(const Tensor<N>& found, const Expected& expected, double tolerance, std::string_view reason) {
  return compare(Values(found), Values(expected), tolerance, reason);
}

}  // namespace kv::test
