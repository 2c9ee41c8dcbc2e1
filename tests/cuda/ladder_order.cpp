/// @file
/// The ladder when threads and blocks get their turns in another order. For the CPU runtime alone.
#include "common/cuda/simt/runtime.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/mla_cases.hpp"

using namespace kv;

TEST_CASE("the order of turns changes no bit", "[ladder]") {
  for (const cuda::Rung& rung : cuda::ladder()) {
    const cuda::MlaDecodeOnHost problem = test::make({GENERATE(17, 65), {150, 0, 70, 3}, 1});
    simt::set_order(0);
    const cuda::Decoded forward = cuda::decode(rung, problem, 2);
    for (const unsigned order : {1u, 2u, 3u}) {
      INFO(rung.name << ", order " << order);
      simt::set_order(order);
      CHECK(test::same_bits(cuda::decode(rung, problem, 2), forward));
    }
  }
  simt::set_order(0);
}
