/// @file
/// Every rung of the ladder for the sanitizers, which end the program at the first race or access out of bounds: several
/// blocks, pages that are not full, a sequence that two blocks share, a block with two sequences, an empty sequence.
#include <cmath>

#include "tests/support/catch.hpp"
#include "tests/support/mla_cases.hpp"

using namespace kv;

TEST_CASE("a sanitizer has nothing to say about any rung", "[ladder]") {
  for (const cuda::Rung& rung : cuda::ladder()) {
    INFO(rung.name);
    const cuda::MlaDecodeOnHost problem = test::make({3, {150, 0, 70, 3}, 1});
    int numbers = 0;
    for (const cuda::bf16 value : cuda::decode(rung, problem, 2).output) numbers += !std::isnan(cuda::to_float(value));
    CHECK(numbers == 4 * 3 * cuda::value_width);
  }
}
