/// Chapter 2: the same bits as chapter 1 from a cache that grows by copying.
#include "chapters/02_concat_cache/concat_attention.hpp"

#include "chapters/01_uncached_attention/uncached_attention.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/feed.hpp"
#include "tests/support/ladder.hpp"
#include "tests/support/random.hpp"

using namespace kv;
using namespace kv::test;

namespace {

std::unique_ptr<Attention> uncached(std::shared_ptr<const HeadProjection> projection, const Limits& limits) {
  return std::make_unique<UncachedAttention>(std::move(projection), limits);
}
std::unique_ptr<Attention> concat(std::shared_ptr<const HeadProjection> projection, const Limits& limits) {
  return std::make_unique<ConcatAttention>(std::move(projection), limits);
}

}  // namespace

TEST_CASE("concat keeps G * (D + W) floats for each token, no more", "[concat]") {
  for (const RandomProjection& heads : all_kinds_of_heads()) {
    const auto [H, G, D, W, window] = heads.weights.sizes;
    CAPTURE(H, G, D, W);
    ConcatAttention attention(heads.projection, {.sequences = 2, .capacity = 30});
    CHECK(attention.state_bytes().allocated == 0);
    feed(attention, random_tensor<2>({7, heads.width}, 1), {{1, 0, 4}, {0, 4, 3}});
    CHECK(attention.length(0) == 3);
    CHECK(attention.length(1) == 4);
    CHECK(attention.state_bytes().allocated == 7 * G * (D + W) * 4);
    feed(attention, random_tensor<2>({1, heads.width}, 2), {{0, 0, 1}});
    CHECK(attention.state_bytes().allocated == 8 * G * (D + W) * 4);
    attention.truncate(1, 1);
    CHECK(attention.state_bytes().allocated == 5 * G * (D + W) * 4);
  }
}

TEST_CASE("concat has the sequences it was made for", "[concat]") {
  const RandomProjection heads = grouped_heads();
  ConcatAttention attention(heads.projection, {.sequences = 2, .capacity = 30});
  CHECK_THROWS_AS(attention.length(2), std::out_of_range);
  CHECK_THROWS_AS(attention.truncate(2, 0), std::out_of_range);
  CHECK_THROWS_AS(feed(attention, random_tensor<2>({2, heads.width}, 1), {{0, 0, 1}, {2, 1, 1}}), std::out_of_range);
  CHECK(attention.length(0) == 0);
}

// The ladder comes last: what fails above says more.
TEST_CASE("concat: agrees with the oracle", "[concat]") { agrees_with_the_oracle(concat); }
TEST_CASE("concat: repeats chapter 1, equal bits", "[concat]") { repeats(concat, uncached); }
TEST_CASE("concat: any chunking, equal bits", "[concat]") { chunking_changes_nothing(concat); }
TEST_CASE("concat: a batch row is its solo run, equal bits", "[concat]") { batch_row_equals_solo_run(concat); }
TEST_CASE("concat: looks back only", "[concat]") { looks_back_only(concat); }
TEST_CASE("concat: forgets what is truncated", "[concat]") { forgets_what_is_truncated(concat); }
TEST_CASE("concat: refuses wrong shapes", "[concat]") { refuses_wrong_shapes(concat); }
