/// @file
/// Every rung of the ladder for the sanitizers, which end the program at the first race, access out of bounds or missing
/// fence_proxy_async: several blocks, pages that are not full, a sequence that two blocks share, a block with two sequences,
/// an empty sequence; all pages in one block, so that TMA writes where rows were cleared; and a sequence in so many parts
/// that teams of threads put them together; and so many heads that two blocks of a cluster share pages, three and more.
#include <cmath>

#include "tests/support/catch.hpp"
#include "tests/support/mla_cases.hpp"

using namespace kv;

namespace {

void check_all_written(const cuda::Rung& rung, const test::MlaCase& c, int multiprocessors) {
  int numbers = 0;
  for (const cuda::bf16 value : cuda::decode(rung, test::make(c), multiprocessors).output) numbers += !std::isnan(cuda::to_float(value));
  CHECK(numbers == static_cast<int>(c.lengths.size()) * c.heads * cuda::value_width);
}

}  // namespace

TEST_CASE("a sanitizer has nothing to say about any rung", "[ladder]") {
  for (const cuda::Rung& rung : cuda::ladder()) {
    INFO(rung.name);
    check_all_written(rung, {3, {150, 0, 70, 3}, 1}, 2);
    check_all_written(rung, {3, {150, 0, 70, 3}, 1}, 1);
    check_all_written(rung, {1, {17 * cuda::page_tokens}, 2}, 17);
    check_all_written(rung, {65, {200, 3}, 3}, 4);
  }
}
