/// Chapter 1: attention against its formula, the projection around it, and the stage that remembers nothing.
#include "chapters/01_uncached_attention/attend.hpp"
#include "chapters/01_uncached_attention/uncached_attention.hpp"

#include <limits>

#include "tests/support/catch.hpp"
#include "tests/support/feed.hpp"
#include "tests/support/instruction_sets.hpp"
#include "tests/support/ladder.hpp"
#include "tests/support/random.hpp"
#include "tests/support/temporary.hpp"

using namespace kv;
using namespace kv::test;

namespace {

constexpr const char* oracle_precision = "the oracle is in double precision";

std::unique_ptr<Attention> uncached(std::shared_ptr<const HeadProjection> projection, const Limits& limits) {
  return std::make_unique<UncachedAttention>(std::move(projection), limits);
}

/// Queries of the last T tokens, keys and values of S, wide enough that the softmax is sharp.
struct Sizes {
  index_t T, S, H, G, D, W;
};
struct Case {
  Tensor<3> queries, keys, values;
};
Case random_case(const Sizes& sizes, unsigned seed) {
  const auto [T, S, H, G, D, W] = sizes;
  return {random_tensor<3>({T, H, D}, seed, -1.0f, 1.3f), random_tensor<3>({S, G, D}, seed + 1, -1.5f, 1.0f),
          random_tensor<3>({S, G, W}, seed + 2)};
}

/// The same rows with `more` rows of NaN behind them.
Tensor<3> with_poison(const Tensor<3>& x, index_t more) {
  Tensor<3> longer(Shape<3>{x.shape(0) + more, x.shape(1), x.shape(2)}, std::numeric_limits<float>::quiet_NaN());
  put_rows(longer, 0, x);
  return longer;
}

}  // namespace

TEST_CASE("attend is its formula", "[attend]") {
  const Sizes sizes = GENERATE(Sizes{1, 1, 1, 1, 1, 1}, Sizes{1, 9, 4, 2, 6, 5}, Sizes{9, 9, 4, 4, 16, 16},
                               Sizes{4, 37, 6, 2, 17, 3}, Sizes{36, 37, 6, 3, 15, 33}, Sizes{2, 64, 8, 1, 33, 64},
                               Sizes{33, 33, 3, 1, 1, 2}, Sizes{1, 300, 2, 2, 64, 64}, Sizes{40, 300, 6, 2, 20, 18},
                               Sizes{130, 130, 2, 1, 8, 8}, Sizes{1, 128, 2, 1, 8, 8}, Sizes{2, 129, 40, 1, 8, 8});
  CAPTURE(sizes.T, sizes.S, sizes.H, sizes.G, sizes.D, sizes.W);
  const auto [queries, keys, values] = random_case(sizes, 11);
  CHECK(close(attend(queries, keys, values, sizes.S),
              oracle::attention(oracle::widen(queries), oracle::widen(keys), oracle::widen(values), sizes.S), 1e-5,
              oracle_precision));
}

TEST_CASE("attend never reads unused capacity", "[attend]") {
  const index_t T = GENERATE(1, 5, 12);
  const auto [queries, keys, values] = random_case({T, 12, 6, 2, 10, 7}, 21);
  CHECK(exact(attend(queries, with_poison(keys, 4), with_poison(values, 4), 12), attend(queries, keys, values, 12)));
}

TEST_CASE("a row of attend is the same bits alone and among others", "[attend]") {
  const auto [queries, keys, values] = random_case({35, 50, 4, 2, 18, 34}, 31);
  const Tensor<3> all = attend(queries, keys, values, 50);
  for (index_t t = 0; t < 35; ++t)
    CHECK(exact(attend(rows(queries, t, 1), keys, values, 16 + t), rows(all, t, 1)));
}

TEST_CASE("a row of attend does not depend on where a chunk begins in a block", "[attend]") {
  // Scores that grow along the sequence: the largest changes in every block, and with it the factor.
  const index_t S = 300, G = GENERATE(1, 2, 6);
  auto [queries, keys, values] = random_case({S, S, 6, G, 18, 34}, 33);
  for (index_t s = 0; s < S; ++s)
    for (index_t g = 0; g < G; ++g)
      for (float& k : row(keys, s, g)) k *= 0.5f + static_cast<float>(s) * 0.02f;
  const Tensor<3> all = attend(queries, keys, values, S);
  for (const index_t first : {0, 1, 126, 127, 128, 129, 200, 255, 256, 299})
    for (const index_t count : {1, 2, 44}) {
      if (first + count > S) continue;
      CAPTURE(G, first, count);
      const Tensor<3> past_keys = with_poison(rows(keys, 0, first + count), 3);
      const Tensor<3> past_values = with_poison(rows(values, 0, first + count), 3);
      CHECK(exact(attend(rows(queries, first, count), past_keys, past_values, first + count), rows(all, first, count)));
    }
}

TEST_CASE("attend: threads and instruction sets change no bit", "[attend]") {
  const auto [T, S] = GENERATE(table<index_t, index_t>({{7, 50}, {1, 50}, {1, 290}, {20, 290}}));
  const auto [queries, keys, values] = random_case({T, S, 6, 3, 22, 35}, 41);
  const Tensor<3> expected = attend(queries, keys, values, S);
  for (const InstructionSet set : available_instruction_sets())
    for (const index_t thread_count : {index_t{1}, index_t{2}, index_t{3}}) {
      CAPTURE(name(set), thread_count);
      const Machine machine(set, thread_count);
      CHECK(exact(attend(queries, keys, values, S), expected));
    }
}

TEST_CASE("scores of any size: the softmax neither overflows nor loses its sum", "[attend]") {
  const float scale = GENERATE(1e-3f, 30.0f, 1e4f, 1e18f);
  CAPTURE(scale);
  auto [queries, keys, values] = random_case({3, 20, 2, 1, 8, 8}, 51);
  for (float& q : queries) q *= scale;
  for (float& k : keys) k *= scale < 1e10f ? 1.0f : 1e-3f;
  CHECK(close(attend(queries, keys, values, 20),
              oracle::attention(oracle::widen(queries), oracle::widen(keys), oracle::widen(values), 20),
              scale <= 30.0f ? 1e-4 : 1e-2, "a score of 1e4 is rounded to a thousandth in f32, and exp shows it"));
}

TEST_CASE("every token sees itself and all before it, each by its weight", "[attend]") {
  // Two keys: the query is equal to the second, so it wins by e^(1/sqrt(4) * 4) against 1.
  const Tensor<3> keys{{{0, 0, 0, 0}}, {{1, 1, 1, 1}}, {{9, 9, 9, 9}}};
  const Tensor<3> values{{{1, 0}}, {{0, 1}}, {{7, 7}}};
  const Tensor<3> query{{{1, 1, 1, 1}}};
  const Tensor<3> found = attend(query, keys, values, 2);
  CHECK(found(0, 0, 0) == Approx(1.0 / (1.0 + std::exp(2.0))).epsilon(1e-6));
  CHECK(found(0, 0, 1) == Approx(std::exp(2.0) / (1.0 + std::exp(2.0))).epsilon(1e-6));
  CHECK(exact(attend(query, keys, values, 1), Tensor<3>{{{1, 0}}}));
}

TEST_CASE("neighbouring query heads share a key/value head", "[attend]") {
  // Values tell the heads apart: head g of the values holds g everywhere.
  const index_t S = 3;
  auto [queries, keys, values] = random_case({1, S, 6, 3, 4, 1}, 61);
  for (index_t s = 0; s < S; ++s)
    for (index_t g = 0; g < 3; ++g) values(s, g, 0) = static_cast<float>(g);
  const Tensor<3> found = attend(queries, keys, values, S);
  for (index_t h = 0; h < 6; ++h) CHECK(found(0, h, 0) == Approx(static_cast<double>(h / 2)).margin(1e-6));
}

TEST_CASE("attend names the tensor that does not fit", "[attend]") {
  const auto [queries, keys, values] = random_case({2, 5, 4, 2, 8, 6}, 71);
  const auto error = [&](const Tensor<3>& q, const Tensor<3>& k, const Tensor<3>& v) {
    return shape_error_of([&] { attend(q, k, v, 5); });
  };
  CHECK(error(queries, random_tensor<3>({5, 2, 7}, 1), values) == "attend: keys (C,G,D) has shape (5,2,7), expected (5,2,8)");
  CHECK(error(queries, keys, random_tensor<3>({4, 2, 6}, 1)) == "attend: values (C,G,W) has shape (4,2,6), expected (5,2,6)");
  CHECK(error(queries, keys, random_tensor<3>({5, 4, 6}, 1)) == "attend: values (C,G,W) has shape (5,4,6), expected (5,2,6)");
  CHECK(holds(error(queries, random_tensor<3>({5, 3, 8}, 1), random_tensor<3>({5, 3, 6}, 1)), "4 query heads"));
  CHECK(holds(error(queries, random_tensor<3>({5, 8, 8}, 1), random_tensor<3>({5, 8, 6}, 1)), "8 key/value heads"));
  CHECK(holds(error(queries, empty<3>({5, 0, 8}), empty<3>({5, 0, 6})), "0 key/value heads"));
  CHECK_THROWS_AS(attend(queries, keys, values, 1), std::out_of_range);  // S < T
  CHECK_THROWS_AS(attend(queries, keys, values, 6), std::out_of_range);  // S > C
}

TEST_CASE("attend of no new tokens is nothing", "[attend]") {
  const auto [queries, keys, values] = random_case({1, 5, 4, 2, 8, 6}, 81);
  CHECK(attend(empty<3>({0, 4, 8}), keys, values, 5).shape(0) == 0);
}

TEST_CASE("the projection makes the heads of its formula", "[projection]") {
  for (const RandomProjection& heads : all_kinds_of_heads()) {
    const auto [H, G, D, W, window] = heads.weights.sizes;
    CAPTURE(H, G, D, W);
    const std::vector<index_t> positions{0, 5, 5, 77};
    const Tensor<2> x = random_tensor<2>({4, heads.width}, 91);
    const Heads found = heads.projection->project(x, positions);
    const auto expected = [&](const Doubles<2>& weight, const std::vector<double>& norm, index_t count, index_t width, bool turn) {
      const Doubles<2> flat = oracle::linear(oracle::widen(x), weight);
      Doubles<3> result = Doubles<3>::from_shape({4, count, width});
      for (index_t n = 0; n < 4; ++n)
        for (index_t h = 0; h < count; ++h) {
          std::vector<double> head(width);
          for (index_t d = 0; d < width; ++d) head[d] = flat(n, h * width + d);
          if (!norm.empty()) head = oracle::rms_norm(head, norm, heads.weights.norm_epsilon);
          if (turn)
            head = oracle::rotate(head, heads.weights.frequencies, static_cast<double>(positions[n]), oracle::Pairs::half_split);
          for (index_t d = 0; d < width; ++d) result(n, h, d) = head[d];
        }
      return result;
    };
    const auto& w = heads.weights;
    CHECK(close(found.queries, expected(w.query, w.query_norm, H, D, true), 2e-5, "angles are products of two f32"));
    CHECK(close(found.keys, expected(w.key, w.key_norm, G, D, true), 2e-5, "angles are products of two f32"));
    CHECK(close(found.values, expected(w.value, {}, G, W, false), 1e-5, oracle_precision));
  }
}

TEST_CASE("the projection refuses matrices that do not fit its sizes", "[projection]") {
  const HeadSizes sizes{6, 2, 8, 4};
  const index_t M = 20;
  const auto matrix = [](index_t outputs, index_t inputs) {
    return std::make_shared<const Linear>(view(random_tensor<2>({outputs, inputs}, 1)));
  };
  const auto error = [&](const char* wrong, index_t outputs, index_t inputs) {
    GroupedProjection::Weights weights{matrix(48, M), matrix(16, M), matrix(8, M), matrix(M, 24), {}, {}, 0.0f};
    const std::string_view which = wrong;
    if (which == "query") weights.query = matrix(outputs, inputs);
    if (which == "key") weights.key = matrix(outputs, inputs);
    if (which == "value") weights.value = matrix(outputs, inputs);
    if (which == "output") weights.output = matrix(outputs, inputs);
    if (which == "query norm") weights.query_norm = random_tensor<1>({outputs}, 1);
    if (which == "key norm") weights.key_norm = random_tensor<1>({outputs}, 1);
    return shape_error_of([&] { GroupedProjection(weights, sizes, Rope{{1.0f, 0.1f, 0.01f, 0.001f}}); });
  };
  CHECK(error("query", 40, M) == "query projection (H*D,M) has shape (40,20), expected (48,20)");
  CHECK(error("key", 48, M) == "key projection (G*D,M) has shape (48,20), expected (16,20)");
  CHECK(error("value", 8, 19) == "value projection (G*W,M) has shape (8,19), expected (8,20)");
  CHECK(error("output", 24, M) == "output projection (M,H*W) has shape (24,20), expected (20,24)");
  CHECK(error("query norm", 7, 0) == "query norm (D) has shape (7), expected (8)");
  CHECK(error("key norm", 48, 0) == "key norm (D) has shape (48), expected (8)");
  CHECK(error("none", 0, 0) == "no ShapeError");
}

TEST_CASE("the projection refuses positions that do not fit the rows", "[projection]") {
  const RandomProjection heads = grouped_heads();
  const std::vector<index_t> positions{0, 1};
  const std::string message =
      shape_error_of([&] { heads.projection->project(random_tensor<2>({3, heads.width}, 1), positions); });
  CAPTURE(message);
  CHECK(holds(message, "(2)"));
  CHECK(holds(message, "(3)"));
}

TEST_CASE("heads are split and joined without loss", "[projection]") {
  const Tensor<2> x = random_tensor<2>({3, 10}, 1);
  const Tensor<3> heads = split_heads(x, 5);
  CHECK(heads(2, 3, 1) == x(2, 7));
  CHECK(exact(join_heads(heads), x));
}

TEST_CASE("uncached: agrees with the oracle", "[uncached]") { agrees_with_the_oracle(uncached); }
TEST_CASE("uncached: any chunking, equal bits", "[uncached]") { chunking_changes_nothing(uncached); }
TEST_CASE("uncached: a batch row is its solo run, equal bits", "[uncached]") { batch_row_equals_solo_run(uncached); }
TEST_CASE("uncached: looks back only", "[uncached]") { looks_back_only(uncached); }
TEST_CASE("uncached: forgets what is truncated", "[uncached]") { forgets_what_is_truncated(uncached); }
TEST_CASE("uncached: refuses wrong shapes", "[uncached]") { refuses_wrong_shapes(uncached); }

TEST_CASE("uncached remembers nothing and says so", "[uncached]") {
  const RandomProjection heads = grouped_heads();
  UncachedAttention attention(heads.projection, Limits{});
  feed(attention, random_tensor<2>({5, heads.width}, 1), {{0, 0, 5}});
  CHECK(attention.length(0) == 0);
  CHECK(attention.state_bytes().allocated == 0);
  CHECK_NOTHROW(attention.truncate(0, 0));
  CHECK_THROWS_AS(attention.truncate(0, 1), std::out_of_range);
}
