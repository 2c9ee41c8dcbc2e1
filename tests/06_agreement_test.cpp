/// @file
/// What gpu-bench asks of a yardstick before it is timed.
#include <limits>

#include "chapters/06_cuda_kernels/bench/agreement.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/mla_cases.hpp"

using namespace kv;
using namespace kv::cuda;

TEST_CASE("rungs agree, whatever their order of sums; a wrong kernel does not", "[ladder]") {
  const MlaDecodeOnHost problem = test::make({2, {200, 65}, 1});
  const Decoded naive = decode(find_rung("1"), problem, 2), expected = decode(find_rung("6"), problem, 2);
  const auto refused = [&](auto&& spoil) {
    Decoded found = naive;
    spoil(found);
    return [&expected, found] { require_agreement("another", found, expected); };
  };
  CHECK_NOTHROW(refused([](auto&) {})());
  CHECK_THROWS_WITH(refused([](auto& d) { d.output[3] = to_bf16(std::numeric_limits<float>::quiet_NaN()); })(),
                    Catch::Matchers::StartsWith("another computes something else than the ladder's last rung: outputs differ by "));
  CHECK_THROWS_AS(refused([](auto& d) { std::swap(d.output[0], d.output[value_width]); std::swap(d.lse[0], d.lse[1]); })(), Error);
  CHECK_THROWS_AS(refused([](auto& d) { d.lse[1] = std::numeric_limits<float>::infinity(); })(), Error);
  CHECK_THROWS_AS(refused([](auto& d) { d.lse[1] += 0.01f; })(), Error);
  MlaDecodeOnHost shorter = problem;
  shorter.lengths[0] = 199;
  CHECK_THROWS_AS(require_agreement("another", decode(find_rung("1"), shorter, 2), expected), Error);
}
