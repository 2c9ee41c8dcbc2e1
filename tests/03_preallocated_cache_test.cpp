/// Chapter 3: the same bits from a cache of fixed capacity that is written in place.
#include "chapters/03_preallocated_cache/preallocated_attention.hpp"

#include <limits>

#include "chapters/02_concat_cache/concat_attention.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/feed.hpp"
#include "tests/support/ladder.hpp"
#include "tests/support/random.hpp"
#include "tests/support/temporary.hpp"

using namespace kv;
using namespace kv::test;

namespace {

std::unique_ptr<Attention> concat(std::shared_ptr<const HeadProjection> projection, const Limits& limits) {
  return std::make_unique<ConcatAttention>(std::move(projection), limits);
}
std::unique_ptr<Attention> preallocated(std::shared_ptr<const HeadProjection> projection, const Limits& limits) {
  return std::make_unique<PreallocatedAttention>(std::move(projection), limits);
}

constexpr HeadSizes sizes{6, 2, 8, 5};
Tensor<3> keys(index_t count, unsigned seed) { return random_tensor<3>({count, 2, 8}, seed); }
Tensor<3> values(index_t count, unsigned seed) { return random_tensor<3>({count, 2, 5}, seed); }
Tensor<3> nan_rows(Tensor<3> x) {
  x.fill(std::numeric_limits<float>::quiet_NaN());
  return x;
}
bool all_nan(const Tensor<3>& x) {
  return std::ranges::all_of(x, [](float value) { return value != value; });
}

}  // namespace

TEST_CASE("rows are appended in order and never rewritten", "[cache]") {
  HeadCache cache(6, sizes);
  CHECK(cache.capacity() == 6);
  CHECK(cache.length() == 0);
  const float* const place = cache.keys().data();
  const Tensor<3> first_keys = keys(4, 1), first_values = values(4, 2), more_keys = keys(5, 3), more_values = values(5, 4);
  cache.append(first_keys, first_values, 0, 4);
  cache.append(more_keys, more_values, 2, 1);  // a segment out of the middle of a batch
  CHECK(cache.length() == 5);
  CHECK(exact(rows(cache.keys(), 0, 4), first_keys));
  CHECK(exact(rows(cache.values(), 0, 4), first_values));
  CHECK(exact(rows(cache.keys(), 4, 1), rows(more_keys, 2, 1)));
  CHECK(exact(rows(cache.values(), 4, 1), rows(more_values, 2, 1)));
  CHECK(cache.keys().data() == place);  // allocated once
}

TEST_CASE("an append that is off by one says which rows do not fit", "[cache]") {
  Tensor<3> cache = empty<3>({8, 2, 8});
  const Tensor<3> fresh = keys(4, 1);
  const auto refusal = [](const auto& copy) -> std::string {
    try {
      copy();
    } catch (const std::out_of_range& error) {
      return error.what();
    }
    return "none";
  };
  CHECK(refusal([&] { put_rows(cache, 4, fresh); }) == "none");
  CHECK(refusal([&] { put_rows(cache, 5, fresh); }) == "put_rows: rows 5 ... 8 do not fit: there are 8");
  CHECK(refusal([&] { put_rows(cache, index_t{0} - 1, fresh); }) == "put_rows: rows -1 ... 2 do not fit: there are 8");
  CHECK(refusal([&] { rows(fresh, 3, 2); }) == "rows 3 ... 4 do not fit: there are 4");
  CHECK(refusal([&] { rows(fresh, 4, 0); }) == "none");
}

TEST_CASE("a cache takes exactly its capacity", "[cache]") {
  HeadCache cache(3, sizes);
  const Tensor<3> k = keys(4, 1), v = values(4, 2);
  cache.append(k, v, 0, 3);
  CHECK(cache.length() == 3);
  CHECK_NOTHROW(require_room(cache.length(), cache.capacity(), 0));
  const std::string message = error_of([&] { cache.append(k, v, 3, 1); });
  CAPTURE(message);
  CHECK(holds(message, "holds 3 of at most 3 tokens; 1 more do not fit"));
  CHECK_THROWS_AS(require_room(cache.length(), cache.capacity(), std::numeric_limits<index_t>::max()), Error);
  CHECK(cache.length() == 3);
  CHECK(exact(cache.keys(), rows(k, 0, 3)));
  CHECK(exact(cache.values(), rows(v, 0, 3)));
}

TEST_CASE("what does not fit by shape leaves even unused rows alone", "[cache]") {
  HeadCache cache(6, sizes);
  cache.append(nan_rows(keys(6, 1)), nan_rows(values(6, 1)), 0, 6);
  cache.truncate(0);
  cache.append(keys(2, 2), values(2, 3), 0, 2);
  const auto error = [&](const Tensor<3>& k, const Tensor<3>& v) {
    return shape_error_of([&] { cache.append(k, v, 0, 1); });
  };
  const std::string wide_keys = error(random_tensor<3>({1, 2, 9}, 1), values(1, 1));
  const std::string few_heads = error(keys(1, 1), random_tensor<3>({1, 1, 5}, 1));
  const std::string wide_values = error(keys(1, 1), random_tensor<3>({1, 2, 8}, 1));
  CAPTURE(wide_keys, few_heads, wide_values);
  CHECK(holds(wide_keys, "keys"));
  CHECK(holds(wide_keys, "(1,2,9), expected (1,2,8)"));
  CHECK(holds(few_heads, "values"));
  CHECK(holds(few_heads, "(1,1,5), expected (1,2,5)"));
  CHECK(holds(wide_values, "(1,2,8), expected (1,2,5)"));
  CHECK_THROWS_AS(cache.append(keys(2, 1), values(2, 1), 1, 2), std::out_of_range);  // rows that the batch lacks
  CHECK(cache.length() == 2);
  CHECK(exact(rows(cache.keys(), 0, 2), keys(2, 2)));
  CHECK(all_nan(rows(cache.keys(), 2, 4)));
  CHECK(all_nan(rows(cache.values(), 2, 4)));
}

TEST_CASE("truncate and go on", "[cache]") {
  HeadCache cache(4, sizes);
  cache.append(keys(4, 1), values(4, 2), 0, 4);
  cache.truncate(4);
  CHECK(cache.length() == 4);
  cache.truncate(1);
  cache.append(keys(3, 3), values(3, 4), 0, 3);
  CHECK(exact(rows(cache.keys(), 0, 1), rows(keys(4, 1), 0, 1)));
  CHECK(exact(rows(cache.keys(), 1, 3), keys(3, 3)));
  CHECK(exact(rows(cache.values(), 1, 3), values(3, 4)));
  CHECK_THROWS_AS(cache.truncate(5), std::out_of_range);
  CHECK(cache.length() == 4);
}

TEST_CASE("a cache of no capacity holds nothing", "[cache]") {
  HeadCache cache(0, sizes);
  CHECK(cache.bytes().allocated == 0);
  CHECK_THROWS_AS(cache.append(keys(1, 1), values(1, 1), 0, 1), Error);
}

TEST_CASE("preallocated holds C * G * (D + W) floats for each sequence, full or empty", "[preallocated]") {
  for (const RandomProjection& heads : all_kinds_of_heads()) {
    const auto [H, G, D, W, window] = heads.weights.sizes;
    CAPTURE(H, G, D, W);
    PreallocatedAttention attention(heads.projection, {.sequences = 3, .capacity = 11});
    const std::size_t expected = 3 * 11 * G * (D + W) * 4;
    CHECK(attention.state_bytes().allocated == expected);
    CHECK(attention.state_bytes().used == 0);
    feed(attention, random_tensor<2>({11, heads.width}, 1), {{1, 0, 11}});
    CHECK(attention.state_bytes().allocated == expected);
    CHECK(attention.state_bytes().used == expected / 3);
    attention.truncate(1, 0);
    CHECK(attention.state_bytes().allocated == expected);
    CHECK(attention.state_bytes().used == 0);
  }
}

TEST_CASE("overflow is refused before anything is written, whoever in the batch it is", "[preallocated]") {
  const RandomProjection heads = grouped_heads();
  const index_t M = heads.width, C = 8;
  const Tensor<2> start = random_tensor<2>({10, M}, 1), step = random_tensor<2>({3, M}, 2);
  PreallocatedAttention used(heads.projection, {.sequences = 2, .capacity = C});
  PreallocatedAttention untouched(heads.projection, {.sequences = 2, .capacity = C});
  for (PreallocatedAttention* each : {&used, &untouched}) feed(*each, start, {{0, 0, 3}, {1, 3, 7}});

  const Batch too_long = GENERATE(Batch{{0, 0, 1}, {1, 1, 2}}, Batch{{1, 0, 2}, {0, 2, 1}}, Batch{{1, 0, 3}});
  const std::string message = error_of([&] { feed(used, step, too_long); });
  CAPTURE(message);
  CHECK(holds(message, "holds 7 of at most 8 tokens"));
  CHECK(used.length(0) == 3);
  CHECK(used.length(1) == 7);
  CHECK(exact(feed(used, step, {{0, 0, 2}, {1, 2, 1}}), feed(untouched, step, {{0, 0, 2}, {1, 2, 1}})));
  CHECK(used.length(1) == C);  // exactly full
  CHECK_THROWS_AS(feed(used, rows(step, 0, 1), {{1, 0, 1}}), Error);
  CHECK(exact(feed(used, rows(step, 1, 1), {{0, 0, 1}}), feed(untouched, rows(step, 1, 1), {{0, 0, 1}})));
}

TEST_CASE("a prompt longer than the capacity is refused whole", "[preallocated]") {
  const RandomProjection heads = grouped_heads();
  PreallocatedAttention attention(heads.projection, {.sequences = 1, .capacity = 5});
  CHECK_THROWS_AS(feed(attention, random_tensor<2>({6, heads.width}, 1), {{0, 0, 6}}), Error);
  CHECK(attention.length(0) == 0);
  CHECK_NOTHROW(feed(attention, random_tensor<2>({5, heads.width}, 1), {{0, 0, 5}}));
}

TEST_CASE("preallocated has the sequences it was made for", "[preallocated]") {
  const RandomProjection heads = grouped_heads();
  PreallocatedAttention attention(heads.projection, {.sequences = 2, .capacity = 5});
  CHECK_THROWS_AS(feed(attention, random_tensor<2>({2, heads.width}, 1), {{0, 0, 1}, {2, 1, 1}}), std::out_of_range);
  CHECK(attention.length(0) == 0);
  CHECK_THROWS_AS(attention.truncate(2, 0), std::out_of_range);
}

// The ladder comes last: what fails above says more.
TEST_CASE("preallocated: agrees with the oracle", "[preallocated]") { agrees_with_the_oracle(preallocated); }
TEST_CASE("preallocated: repeats chapter 2, equal bits", "[preallocated]") { repeats(preallocated, concat); }
TEST_CASE("preallocated: any chunking, equal bits", "[preallocated]") { chunking_changes_nothing(preallocated); }
TEST_CASE("preallocated: a batch row is its solo run, equal bits", "[preallocated]") {
  batch_row_equals_solo_run(preallocated);
}
TEST_CASE("preallocated: looks back only", "[preallocated]") { looks_back_only(preallocated); }
TEST_CASE("preallocated: forgets what is truncated", "[preallocated]") { forgets_what_is_truncated(preallocated); }
TEST_CASE("preallocated: refuses wrong shapes", "[preallocated]") { refuses_wrong_shapes(preallocated); }
