#include "tests/support/equality.hpp"

#include <cmath>
#include <sstream>

namespace kv::test {
namespace {

bool same(double a, double b) { return a == b && std::signbit(a) == std::signbit(b); }

/// "(2,0,13)"
std::string place(index_t flat, const std::vector<index_t>& shape) {
  std::vector<index_t> index(shape.size());
  for (index_t axis = shape.size(); axis-- > 0; flat /= shape[axis]) index[axis] = flat % shape[axis];
  return shape_text(index);
}

}  // namespace

Comparison compare(const Values& found, const Values& expected, double tolerance, std::string_view reason) {
  const std::string kind = tolerance == 0.0 ? "exact" : "rel " + std::to_string(tolerance) + ": " + std::string(reason);
  if (found.shape != expected.shape)
    return {false, kind + "; shape is " + shape_text(found.shape) + ", expected " + shape_text(expected.shape)};
  double largest = 0.0;
  for (const double value : expected.values) largest = std::max(largest, std::abs(value));
  index_t different = 0, worst = 0;
  double worst_gap = -1.0;
  for (index_t i = 0; i < found.values.size(); ++i) {
    const double a = found.values[i], b = expected.values[i], gap = std::abs(a - b);
    if (tolerance == 0.0 ? same(a, b) : gap <= tolerance * largest) continue;
    ++different;
    if (worst_gap < 0.0 || !(gap <= worst_gap)) {  // a NaN is the worst there is
      worst = i;
      worst_gap = std::isnan(gap) ? INFINITY : gap;
    }
  }
  if (different == 0) return {true, kind};
  std::ostringstream text;
  text.precision(9);
  text << kind << "; worst at " << place(worst, found.shape) << ": found " << found.values[worst] << ", expected "
       << expected.values[worst] << ", abs " << worst_gap << ", rel " << (largest > 0.0 ? worst_gap / largest : worst_gap)
       << "; " << different << " of " << found.values.size() << " differ";
  return {false, text.str()};
}

}  // namespace kv::test
