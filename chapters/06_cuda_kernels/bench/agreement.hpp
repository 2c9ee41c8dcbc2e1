#pragma once
/// @file
/// Do two kernels compute the same? A yardstick that does not is none.
#include <cmath>

#include "chapters/06_cuda_kernels/ladder/ladder.hpp"
#include "common/files/error.hpp"

namespace kv::cuda {

/// Root mean square of the differences, relative to that of the expected numbers. NaN where a number is NaN.
template <class T, class Widen>
double relative_distance(const std::vector<T>& found, const std::vector<T>& expected, Widen widen) {
  double differences = 0.0, squares = 0.0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double number = widen(expected[i]), difference = widen(found.at(i)) - number;
    differences += difference * difference, squares += number * number;
  }
  return std::sqrt(differences / squares);
}

/// Both may round weights and outputs to bf16. The ladder's tests hold each rung to 2^-8 of the formula; two that keep to
/// that are within 2^-7 of each other. Log-sum-exps are in f32 throughout.
/// @throws Error naming the kernel and both distances; NaN agrees with nothing
inline void require_agreement(const std::string& name, const Decoded& found, const Decoded& expected) {
  constexpr double output_limit = 1.0 / 128, lse_limit = 1e-4;
  const double output = relative_distance(found.output, expected.output, [](bf16 number) { return to_float(number); });
  const double lse = relative_distance(found.lse, expected.lse, [](float number) { return number; });
  if (output <= output_limit && lse <= lse_limit) return;
  throw Error(name + " computes something else than the ladder's last rung: outputs differ by " + std::to_string(output) +
              " of their size, at most " + std::to_string(output_limit) + " is rounding; log-sum-exps by " + std::to_string(lse) +
              ", at most " + std::to_string(lse_limit));
}

}  // namespace kv::cuda
