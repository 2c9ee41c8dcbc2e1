/// The mixture: grouped and dense evaluation, independence of the batch, and experts that are not touched.
#include <atomic>
#include <cmath>
#include <filesystem>
#include <thread>

#include "chapters/05_mixture_of_experts/capacity_router.hpp"
#include "chapters/05_mixture_of_experts/gated_expert.hpp"
#include "chapters/05_mixture_of_experts/jobs.hpp"
#include "chapters/05_mixture_of_experts/mixture.hpp"
#include "chapters/05_mixture_of_experts/noaux_tc_router.hpp"
#include "chapters/05_mixture_of_experts/softmax_routers.hpp"
#include "common/checkpoint/checkpoint.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/equality.hpp"
#include "tests/support/random.hpp"
#include "tests/support/small_model.hpp"

using namespace kv;
using namespace kv::test;

namespace {

constexpr index_t E = 16, K = 4, M = 40, F = 24;

std::shared_ptr<const Linear> random_linear(index_t outputs, index_t inputs, unsigned seed) {
  return std::make_shared<Linear>(view(random_tensor<2>({outputs, inputs}, seed, -0.6f, 0.5f)));
}

/// Weights of one expert, for the mixture and for the oracle.
struct ExpertWeights {
  Tensor<2> gate, up, down;
  explicit ExpertWeights(unsigned seed)
      : gate(random_tensor<2>({F, M}, seed, -0.6f, 0.5f)),
        up(random_tensor<2>({F, M}, seed + 1, -0.5f, 0.6f)),
        down(random_tensor<2>({M, F}, seed + 2, -0.6f, 0.5f)) {}
  std::shared_ptr<const FeedForward> make() const {
    const auto linear = [](const Tensor<2>& weight) { return std::make_shared<Linear>(view(weight)); };
    return std::make_shared<DenseFeedForward>(linear(gate), linear(up), linear(down));
  }
};

ExpertWeights expert_weights(index_t e) { return ExpertWeights(static_cast<unsigned>(1000 + 10 * e)); }

std::shared_ptr<const ExpertPool> random_experts(index_t count = E) {
  return std::make_shared<ExpertPool>(count, [](index_t e) { return expert_weights(e).make(); });
}

struct NamedRouter {
  std::string name;
  std::shared_ptr<const Router> router;
};

std::vector<NamedRouter> all_routers() {
  const Tensor<1> bias = random_tensor<1>({E}, 5, -0.3f, 0.3f);
  return {{"mixtral", std::make_shared<MixtralRouter>(E, 2)},
          {"qwen3, normalised", std::make_shared<Qwen3MoeRouter>(E, K, true)},
          {"qwen3", std::make_shared<Qwen3MoeRouter>(E, K, false)},
          {"greedy", std::make_shared<GreedyRouter>(E, K, 1.0f)},
          {"group limited", std::make_shared<GroupLimitedRouter>(E, K, GroupLimit{8, 3}, 16.0f)},
          {"noaux_tc", std::make_shared<NoauxTcRouter>(bias, NoauxTcRouter::Options{.chosen = K, .limit = {4, 2}, .scaling = 2.5f})},
          {"gshard", std::make_shared<CapacityRouter>(E, 2, 1.0)},
          {"switch", std::make_shared<CapacityRouter>(E, 1, 1.0)}};
}

MixtureParts parts_with(std::shared_ptr<const Router> router, bool shared = true) {
  return {.gate = random_linear(E, M, 1), .router = std::move(router), .experts = random_experts(),
          .shared = shared ? expert_weights(99).make() : nullptr};
}

/// y = W x in double precision.
std::vector<double> times(const Tensor<2>& weight, const std::vector<double>& x) {
  std::vector<double> y(weight.shape(0), 0.0);
  for (index_t o = 0; o < y.size(); ++o)
    for (index_t i = 0; i < x.size(); ++i) y[o] += static_cast<double>(weight(o, i)) * x[i];
  return y;
}

std::vector<double> swiglu_formula(const ExpertWeights& weights, const std::vector<double>& x) {
  const auto gate = times(weights.gate, x), up = times(weights.up, x);
  std::vector<double> hidden;
  for (index_t f = 0; f < F; ++f) hidden.push_back(gate[f] / (1 + std::exp(-gate[f])) * up[f]);
  return times(weights.down, hidden);
}

/// Sends every token to the same experts.
struct FixedRouter : Router {
  explicit FixedRouter(Choices choices) : choices(std::move(choices)) {}
  Routing route(const Tensor<2>& logits) const override { return Routing(logits.shape(0), choices); }
  Choices choices;
};

}  // namespace

TEST_CASE("rel 1e-5: a mixture is the weighted sum of its experts and the shared one", "[mixture]") {
  const auto router = std::make_shared<GreedyRouter>(E, K, 1.5f);
  const MixtureParts parts = parts_with(router);
  const Tensor<2> x = random_tensor<2>({9, M}, 20);
  const Routing routing = router->route((*parts.gate)(x));
  Doubles<2> expected = xt::zeros<double>({x.shape(0), M});
  for (index_t n = 0; n < x.shape(0); ++n) {
    const std::vector<double> token(row(x, n).begin(), row(x, n).end());
    std::vector<std::pair<double, std::vector<double>>> terms{{1.0, swiglu_formula(expert_weights(99), token)}};
    for (const auto& [expert, weight] : routing[n]) terms.push_back({weight, swiglu_formula(expert_weights(expert), token)});
    for (const auto& [weight, output] : terms)
      for (index_t m = 0; m < M; ++m) expected(n, m) += weight * output[m];
  }
  CHECK(close(Mixture(parts).forward(x), expected, 1e-5, "the formula is in double precision"));
}

TEST_CASE("exact: every expert on every token gives what the grouped way gives", "[mixture]") {
  const bool shared = GENERATE(true, false);
  for (const auto& [name, router] : all_routers()) {
    CAPTURE(name, shared);
    const Mixture grouped(parts_with(router, shared));
    const DenseMixture dense(parts_with(router, shared));
    for (index_t N = 1; N <= 64; ++N) {
      const Tensor<2> x = random_tensor<2>({N, M}, static_cast<unsigned>(100 + N));
      CHECK(exact(grouped.forward(x), dense.forward(x)));
    }
  }
}

TEST_CASE("exact: a long prompt is computed in pieces, and none of its tokens is left out", "[mixture]") {
  const auto router = std::make_shared<GreedyRouter>(E, K, 1.0f);
  for (const index_t N : {1023, 1024, 1025, 2049}) {
    CAPTURE(N);
    const Tensor<2> x = random_tensor<2>({N, M}, 31);
    CHECK(exact(Mixture(parts_with(router)).forward(x), DenseMixture(parts_with(router)).forward(x)));
  }
}

TEST_CASE("exact: the product of a weight and an output is rounded before it is added", "[mixture]") {
  const float x = 1.0f + 0x1p-12f, rounded = 1.0f + 0x1p-11f;  // x * x, but for 2^-24
  std::vector<float> y{-rounded, 0.0f};
  add_weighted(y, x, std::vector<float>{x, x});
  CHECK(y == std::vector<float>{0.0f, rounded});
}

TEST_CASE("exact: the same with experts that no token goes to, and with tokens that go to none", "[mixture]") {
  const Tensor<2> x = random_tensor<2>({7, M}, 30);
  for (const Choices& choices : {Choices{{3, 0.25f}, {11, 0.75f}}, Choices{{0, 1.0f}}, Choices{{E - 1, -2.0f}}, Choices{}}) {
    const MixtureParts parts = parts_with(std::make_shared<FixedRouter>(choices));
    CHECK(exact(Mixture(parts).forward(x), DenseMixture(parts).forward(x)));
  }
  const MixtureParts nothing = parts_with(std::make_shared<FixedRouter>(Choices{}), false);
  CHECK(exact(Mixture(nothing).forward(x), zeros<2>({7, M})));
  CHECK(exact(DenseMixture(nothing).forward(x), zeros<2>({7, M})));
}

TEST_CASE("exact: a token's result is the same alone and in any company", "[mixture]") {
  for (const auto& [name, router] : all_routers()) {
    if (name == "gshard" || name == "switch") continue;  // they depend on the batch, which is why nobody decodes with them
    CAPTURE(name);
    const Mixture mixture(parts_with(router));
    const Tensor<2> x = random_tensor<2>({64, M}, 40);
    const Tensor<2> together = mixture.forward(x);
    for (index_t n = 0; n < x.shape(0); ++n) CHECK(exact(mixture.forward(rows(x, n, 1)), rows(together, n, 1)));
    CHECK(exact(mixture.forward(rows(x, 17, 30)), rows(together, 17, 30)));
  }
}

TEST_CASE("exact: one expert chosen by all, and no shared one, is the dense feed-forward", "[mixture]") {
  const std::vector<NamedRouter> routers{
      {"mixtral", std::make_shared<MixtralRouter>(1, 1)},
      {"qwen3", std::make_shared<Qwen3MoeRouter>(1, 1, true)},
      {"greedy", std::make_shared<GreedyRouter>(1, 1, 1.0f)},
      {"group limited", std::make_shared<GroupLimitedRouter>(1, 1, GroupLimit{1, 1}, 1.0f)},
      {"noaux_tc", std::make_shared<NoauxTcRouter>(zeros<1>({1}), NoauxTcRouter::Options{.chosen = 1, .limit = {}})}};
  for (const auto& [name, router] : routers) {
    CAPTURE(name);
    const Mixture mixture({.gate = random_linear(1, M, 1), .router = router, .experts = random_experts(1), .shared = nullptr});
    for (const index_t N : {1, 2, 13, 64}) {
      const Tensor<2> x = random_tensor<2>({N, M}, static_cast<unsigned>(50 + N));
      CHECK(exact(mixture.forward(x), expert_weights(0).make()->forward(x)));
    }
  }
}

TEST_CASE("rel 1e-6: a gated expert counts as much as the token's gate says", "[mixture]") {
  const auto gate = random_linear(1, M, 71);
  const auto expert = expert_weights(0).make();
  const Tensor<2> x = random_tensor<2>({5, M}, 72), found = GatedExpert(gate, expert).forward(x);
  const Tensor<2> logits = (*gate)(x), plain = expert->forward(x);
  for (index_t n = 0; n < 5; ++n)
    for (index_t m = 0; m < M; ++m)
      CHECK(found(n, m) == Approx(plain(n, m) / (1.0 + std::exp(-static_cast<double>(logits(n, 0))))).epsilon(1e-6).margin(1e-7));
  CHECK_THROWS_AS(GatedExpert(random_linear(2, M, 71), expert), ShapeError);
}

TEST_CASE("an expert is loaded when it is first chosen, once, by whichever thread comes first", "[mixture]") {
  std::atomic<int> loads{0};
  const ExpertPool pool(E, [&](index_t e) {
    ++loads;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // long enough for the others to come
    return expert_weights(e).make();
  });
  CHECK(pool.count() == E);
  CHECK(pool.loaded() == 0);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (const index_t e : {3, 5, 3, 9}) pool.expert(e);
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(loads == 3);
  CHECK(pool.loaded() == 3);
  CHECK_THROWS_AS(pool.expert(E), std::out_of_range);
}

TEST_CASE("an expert that cannot be loaded is an error each time, and others still work", "[mixture]") {
  int attempts = 0;
  const ExpertPool pool(2, [&](index_t e) {
    if (e == 1 && ++attempts < 3) throw Error("unreadable");
    return expert_weights(e).make();
  });
  CHECK(error_of([&] { pool.expert(1); }) == "unreadable");
  CHECK(error_of([&] { pool.expert(1); }) == "unreadable");
  pool.expert(0);
  CHECK(pool.loaded() == 1);
  pool.expert(1);
  CHECK(pool.loaded() == 2);
}

TEST_CASE("only the chosen experts are loaded", "[mixture]") {
  const MixtureParts parts = parts_with(std::make_shared<FixedRouter>(Choices{{2, 0.5f}, {7, 0.5f}}));
  Mixture(parts).forward(random_tensor<2>({5, M}, 60));
  CHECK(parts.experts->loaded() == 2);
  DenseMixture(parts).forward(random_tensor<2>({5, M}, 60));
  CHECK(parts.experts->loaded() == E);
}

TEST_CASE("a page of an expert that is never chosen is never read", "[mixture]") {
  // Experts lie in the file in order. Everything from expert 2 on is cut off the file while it is mapped: whoever reads
  // a page of it dies of SIGBUS.
  const TemporaryDirectory directory;
  std::vector<FileTensor> tensors;
  const auto name = [](index_t e, const char* matrix) { return "experts." + std::to_string(e) + "." + matrix; };
  for (index_t e = 0; e < 4; ++e) {
    const ExpertWeights weights = expert_weights(e);
    const auto add = [&](const char* matrix, const Tensor<2>& values) {
      tensors.push_back({name(e, matrix), DType::f32, {values.shape(0), values.shape(1)}, {values.begin(), values.end()}});
    };
    add("gate", weights.gate), add("up", weights.up), add("down", weights.down);
  }
  directory.write("config.json", "{}");
  const auto file = directory.write("model.safetensors", safetensors_file(tensors));
  const Checkpoint checkpoint(directory.path());
  const std::byte* const start = checkpoint.entry(name(0, "gate")).data;
  const std::byte* const cut = checkpoint.entry(name(2, "gate")).data;
  REQUIRE(cut - start == 2 * 3 * M * F * 4);
  const std::size_t whole = std::filesystem::file_size(file), lost = 2 * 3 * M * F * 4;
  REQUIRE(lost > 2 * 4096);  // more than a page that expert 1 may share
  std::filesystem::resize_file(file, whole - lost);

  const MixtureParts parts{
      .gate = random_linear(4, M, 1),
      .router = std::make_shared<FixedRouter>(Choices{{0, 0.5f}, {1, 0.5f}}),
      .experts = std::make_shared<ExpertPool>(4, [&](index_t e) {
        return std::make_shared<DenseFeedForward>(checkpoint.linear(name(e, "gate"), F, M), checkpoint.linear(name(e, "up"), F, M),
                                                  checkpoint.linear(name(e, "down"), M, F));
      }),
      .shared = nullptr};
  const Tensor<2> x = random_tensor<2>({3, M}, 70);
  MixtureParts in_memory = parts;
  in_memory.experts = random_experts(4);
  CHECK(exact(Mixture(parts).forward(x), Mixture(in_memory).forward(x)));
}

TEST_CASE("what does not fit is refused", "[mixture]") {
  MixtureParts parts = parts_with(std::make_shared<MixtralRouter>(E, 2));
  parts.gate = random_linear(E - 1, M, 1);
  CHECK_THROWS_WITH(Mixture(parts), "mixture: the gate has 15 outputs for 16 experts");
  CHECK_THROWS_WITH(DenseMixture(parts), "mixture: the gate has 15 outputs for 16 experts");
  const Mixture mixture(parts_with(std::make_shared<MixtralRouter>(E, 2)));
  CHECK_THROWS_AS(mixture.forward(zeros<2>({2, M + 1})), ShapeError);
  CHECK(exact(mixture.forward(zeros<2>({0, M})), zeros<2>({0, M})));
  const Mixture wild(parts_with(std::make_shared<FixedRouter>(Choices{{E, 1.0f}})));
  CHECK_THROWS_AS(wild.forward(zeros<2>({1, M})), std::out_of_range);
}
