/// Routers against their formulas in double precision, and against the mistakes that issue threads report.
#include <numeric>
#include <set>

#include "chapters/05_mixture_of_experts/capacity_router.hpp"
#include "chapters/05_mixture_of_experts/noaux_tc_router.hpp"
#include "chapters/05_mixture_of_experts/observed_router.hpp"
#include "chapters/05_mixture_of_experts/routing_rule.hpp"
#include "chapters/05_mixture_of_experts/softmax_routers.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/random.hpp"

using namespace kv;
using namespace kv::test;

namespace {

// ---- the oracle: double precision, written from the formulas, nothing shared with the routers ----

using Row = std::vector<double>;

/// What the formula gives for one token: the factor of every expert (0: not chosen), and how close the choice was.
struct Answer {
  Row weights;
  double margin;
};

/// Positions by descending value; of equal ones the lowest first.
std::vector<index_t> ranking(const Row& values) {
  std::vector<index_t> order(values.size());
  std::iota(order.begin(), order.end(), index_t{0});
  std::stable_sort(order.begin(), order.end(), [&](index_t a, index_t b) { return values[a] > values[b]; });
  return order;
}

double lead(const Row& values, index_t k) {
  const auto order = ranking(values);
  return k < values.size() ? values[order[k - 1]] - values[order[k]] : INFINITY;
}

Row softmax_of(const Row& logits) {
  Row p;
  double sum = 0;
  for (const double l : logits) p.push_back(std::exp(l)), sum += p.back();
  for (double& each : p) each /= sum;
  return p;
}

Answer mixtral_formula(const Row& logits, index_t K) {
  Row weights(logits.size(), 0.0);
  double sum = 0;
  for (index_t rank = 0; rank < K; ++rank) sum += std::exp(logits[ranking(logits)[rank]]);
  for (index_t rank = 0; rank < K; ++rank) weights[ranking(logits)[rank]] = std::exp(logits[ranking(logits)[rank]]) / sum;
  return {weights, lead(logits, K)};
}

Answer best_of(const Row& scores, index_t K, double scaling, bool normalised) {
  Row weights(scores.size(), 0.0);
  double sum = 0;
  for (index_t rank = 0; rank < K; ++rank) sum += scores[ranking(scores)[rank]];
  for (index_t rank = 0; rank < K; ++rank)
    weights[ranking(scores)[rank]] = scaling * scores[ranking(scores)[rank]] / (normalised ? sum : 1.0);
  return {weights, lead(scores, K)};
}

enum class GroupRule { best, sum_of_two_best };

/// Of each group what it counts.
Row group_values(const Row& scores, index_t groups, GroupRule rule) {
  Row values;
  const index_t size = scores.size() / groups;
  for (index_t g = 0; g < groups; ++g) {
    Row members(scores.begin() + g * size, scores.begin() + (g + 1) * size);
    std::sort(members.begin(), members.end(), std::greater());
    values.push_back(members[0] + (rule == GroupRule::best || size == 1 ? 0.0 : members[1]));
  }
  return values;
}

/// The scores, `masked` outside the best groups.
Row within_groups(const Row& scores, index_t groups, index_t kept, GroupRule rule, double masked) {
  const auto order = ranking(group_values(scores, groups, rule));
  Row result(scores.size(), masked);
  const index_t size = scores.size() / groups;
  for (index_t i = 0; i < kept; ++i)
    for (index_t e = order[i] * size; e < (order[i] + 1) * size; ++e) result[e] = scores[e];
  return result;
}

Answer group_limited_formula(const Row& logits, index_t K, const GroupLimit& limit, double scaling) {
  const Row p = softmax_of(logits), masked = within_groups(p, limit.groups, limit.kept, GroupRule::best, -INFINITY);
  Answer answer = best_of(masked, K, scaling, false);
  answer.margin = std::min(answer.margin, lead(group_values(p, limit.groups, GroupRule::best), limit.kept));
  return answer;
}

/// What people got wrong.
enum class Mistake {
  none, bias_in_weights, groups_masked_with_zero, scaled_before_normalising, top_k_per_group, groups_by_their_best, groups_without_bias,
  no_bias, not_normalised, softmax_scores
};

Answer noaux_tc_formula(const Row& logits, const Row& bias, const NoauxTcRouter::Options& options, Mistake mistake = Mistake::none) {
  const index_t E = logits.size(), K = options.chosen;
  const auto [groups, kept] = options.limit;
  Row s;
  for (const double l : logits) s.push_back(1 / (1 + std::exp(-l)));
  if (mistake == Mistake::softmax_scores) s = softmax_of(logits);
  Row c = s;
  for (index_t e = 0; e < E; ++e) c[e] += mistake == Mistake::no_bias ? 0.0 : bias[e];

  const GroupRule rule = mistake == Mistake::groups_by_their_best ? GroupRule::best : GroupRule::sum_of_two_best;
  const double masked = mistake == Mistake::groups_masked_with_zero ? 0.0 : -INFINITY;
  Row candidates = within_groups(c, groups, kept, rule, masked);
  if (mistake == Mistake::groups_without_bias) {
    const Row by_s = within_groups(s, groups, kept, rule, -INFINITY);
    for (index_t e = 0; e < E; ++e) candidates[e] = std::isinf(by_s[e]) ? -INFINITY : c[e];
  }
  std::set<index_t> chosen;
  if (mistake == Mistake::top_k_per_group) {  // the K / kept best of every kept group
    const index_t size = E / groups;
    for (index_t g = 0; g < groups; ++g) {
      const Row members(candidates.begin() + g * size, candidates.begin() + (g + 1) * size);
      if (std::isinf(members[0])) continue;
      for (index_t rank = 0; rank < std::min(size, K / kept); ++rank) chosen.insert(g * size + ranking(members)[rank]);
    }
  } else {
    for (index_t rank = 0; rank < K; ++rank) chosen.insert(ranking(candidates)[rank]);
  }

  const Row& counted = mistake == Mistake::bias_in_weights ? c : s;
  double sum = 1e-20;
  for (const index_t e : chosen) sum += counted[e];
  Row weights(E, 0.0);
  for (const index_t e : chosen) {
    weights[e] = options.normalised && mistake != Mistake::not_normalised ? counted[e] / sum : counted[e];
    // Scaling first, the division takes it away again.
    if (mistake != Mistake::scaled_before_normalising) weights[e] *= options.scaling;
  }
  return {weights, std::min(lead(candidates, K), lead(group_values(c, groups, rule), kept))};
}

// ---- comparing ----

Row row_of(const Tensor<2>& logits, index_t n) { return Row(row(logits, n).begin(), row(logits, n).end()); }

Row weights_of(const Choices& choices, index_t experts) {
  Row weights(experts, 0.0);
  for (const auto& [expert, weight] : choices) weights.at(expert) = weight;
  return weights;
}

/// Largest difference of any factor, over the largest factor.
double distance(const Row& found, const Row& expected) {
  double gap = 0, largest = 0;
  for (index_t e = 0; e < expected.size(); ++e) {
    gap = std::max(gap, std::abs(found[e] - expected[e]));
    largest = std::max(largest, std::abs(expected[e]));
  }
  return gap / largest;
}

void check_well_formed(const Choices& choices, index_t K) {
  REQUIRE(choices.size() == K);
  for (index_t k = 1; k < K; ++k) CHECK(choices[k - 1].expert < choices[k].expert);
}

/// rel 1e-6: the formula is in double precision. Choices that lead by less than 1e-6 may fall otherwise.
template <class Formula>
void agrees(const Router& router, const Tensor<2>& logits, index_t K, Formula formula) {
  const Routing routing = router.route(logits);
  REQUIRE(routing.size() == logits.shape(0));
  index_t close_calls = 0;
  for (index_t n = 0; n < routing.size(); ++n) {
    CAPTURE(n);
    check_well_formed(routing[n], K);
    const Answer answer = formula(row_of(logits, n));
    if (answer.margin < 1e-6)
      ++close_calls;
    else
      CHECK(distance(weights_of(routing[n], logits.shape(1)), answer.weights) < 1e-6);
  }
  CHECK(close_calls < 3);
}

/// Share of the tokens for which a mistaken formula gives something else than the router.
template <class Formula>
double noticed(const Router& router, const Tensor<2>& logits, Formula formula) {
  const Routing routing = router.route(logits);
  double different = 0;
  for (index_t n = 0; n < routing.size(); ++n)
    different += distance(weights_of(routing[n], logits.shape(1)), formula(row_of(logits, n)).weights) > 1e-3;
  return different / static_cast<double>(routing.size());
}

Tensor<2> random_logits(index_t experts, unsigned seed) { return random_tensor<2>({200, experts}, seed, -3.0f, 2.0f); }

Tensor<1> random_bias(index_t experts, unsigned seed, float low, float high) {
  return random_tensor<1>({experts}, seed, low, high);
}

}  // namespace

TEST_CASE("top_k takes the largest, and of equal ones the lowest", "[router]") {
  const std::vector<float> scores{1, 3, 2, 3, 0, 3};
  CHECK(top_k(scores, 1) == List<index_t>{1});
  CHECK(top_k(scores, 2) == List<index_t>{1, 3});
  CHECK(top_k(scores, 4) == List<index_t>{1, 2, 3, 5});
  CHECK(top_k(scores, 6) == List<index_t>{0, 1, 2, 3, 4, 5});
  CHECK_THROWS_AS(top_k(scores, 7), std::invalid_argument);
}

TEST_CASE("top_k gives k different positions whatever it is fed", "[router]") {
  const std::vector<float> hostile{NAN, -INFINITY, NAN, -INFINITY, INFINITY, NAN};
  for (index_t k = 0; k <= hostile.size(); ++k) {
    const auto positions = top_k(hostile, k);
    CHECK(std::set(positions.begin(), positions.end()).size() == k);
  }
}

TEST_CASE("softmax routers follow their formulas", "[router]") {
  const auto [E, K] = GENERATE(table<index_t, index_t>({{1, 1}, {5, 2}, {8, 2}, {9, 9}, {64, 6}, {160, 6}}));
  const Tensor<2> logits = random_logits(E, 3);
  CAPTURE(E, K);
  agrees(MixtralRouter(E, K), logits, K, [&](const Row& l) { return mixtral_formula(l, K); });
  agrees(Qwen3MoeRouter(E, K, true), logits, K, [&](const Row& l) { return best_of(softmax_of(l), K, 1.0, true); });
  agrees(Qwen3MoeRouter(E, K, false), logits, K, [&](const Row& l) { return best_of(softmax_of(l), K, 1.0, false); });
  agrees(GreedyRouter(E, K, 16.0f), logits, K, [&](const Row& l) { return best_of(softmax_of(l), K, 16.0, false); });
}

TEST_CASE("group-limited routers follow their formulas", "[router]") {
  const auto [E, K, groups, kept] = GENERATE(table<index_t, index_t, index_t, index_t>(
      {{16, 5, 8, 3}, {24, 6, 8, 4}, {16, 4, 4, 2}, {160, 6, 8, 3}, {256, 8, 8, 4}, {12, 4, 1, 1}, {8, 3, 8, 5}}));
  CAPTURE(E, K, groups, kept);
  const Tensor<2> logits = random_logits(E, 4);
  const GroupLimit limit{groups, kept};
  agrees(GroupLimitedRouter(E, K, limit, 16.0f), logits, K, [&, K = K](const Row& l) { return group_limited_formula(l, K, limit, 16.0); });

  const auto [low, high] = GENERATE(table<float, float>({{-0.2f, 0.3f}, {-5.0f, 5.0f}, {4.5f, 5.5f}, {-5.5f, -4.5f}}));
  CAPTURE(low, high);
  const Tensor<1> bias = random_bias(E, 5, low, high);
  const Row bias_row(bias.begin(), bias.end());
  for (const bool normalised : {true, false}) {
    const NoauxTcRouter::Options options{.chosen = K, .limit = limit, .normalised = normalised, .scaling = 2.5f};
    agrees(NoauxTcRouter(bias, options), logits, K, [&](const Row& l) { return noaux_tc_formula(l, bias_row, options); });
  }
}

TEST_CASE("mistakes in DeepSeek-V3's router would be noticed", "[router]") {
  const NoauxTcRouter::Options options{.chosen = 8, .limit = {8, 4}, .normalised = true, .scaling = 2.5f};
  const Tensor<2> logits = random_logits(64, 6);
  const Tensor<1> mixed = random_bias(64, 7, -0.3f, 0.3f), negative = random_bias(64, 7, -5.3f, -4.7f);
  const auto share = [&](const Tensor<1>& bias, Mistake mistake) {
    const Row bias_row(bias.begin(), bias.end());
    return noticed(NoauxTcRouter(bias, options), logits, [&](const Row& l) { return noaux_tc_formula(l, bias_row, options, mistake); });
  };
  CHECK(share(mixed, Mistake::none) == 0.0);
  CHECK(share(negative, Mistake::none) == 0.0);
  CHECK(share(mixed, Mistake::bias_in_weights) > 0.9);
  CHECK(share(negative, Mistake::groups_masked_with_zero) > 0.9);  // with positive scores nobody notices
  CHECK(share(mixed, Mistake::scaled_before_normalising) == 1.0);
  CHECK(share(mixed, Mistake::top_k_per_group) > 0.5);
  CHECK(share(mixed, Mistake::groups_by_their_best) > 0.3);
  CHECK(share(mixed, Mistake::groups_without_bias) > 0.3);
  CHECK(share(mixed, Mistake::no_bias) > 0.5);
  CHECK(share(mixed, Mistake::not_normalised) > 0.9);
  CHECK(share(mixed, Mistake::softmax_scores) > 0.9);
}

TEST_CASE("mistakes in the softmax routers would be noticed", "[router]") {
  const Tensor<2> logits = random_logits(16, 8);
  CHECK(noticed(MixtralRouter(16, 2), logits, [](const Row& l) { return best_of(softmax_of(l), 2, 1.0, false); }) == 1.0);
  CHECK(noticed(Qwen3MoeRouter(16, 2, true), logits, [](const Row& l) { return best_of(softmax_of(l), 2, 1.0, false); }) == 1.0);
  CHECK(noticed(Qwen3MoeRouter(16, 2, false), logits, [](const Row& l) { return best_of(softmax_of(l), 2, 1.0, true); }) == 1.0);
  CHECK(noticed(GreedyRouter(16, 2, 16.0f), logits, [](const Row& l) { return best_of(softmax_of(l), 2, 16.0, true); }) == 1.0);
  CHECK(noticed(GroupLimitedRouter(16, 5, {8, 3}, 1.0f), logits, [](const Row& l) { return best_of(softmax_of(l), 5, 1.0, false); }) > 0.3);
  CHECK(noticed(GroupLimitedRouter(16, 4, {4, 2}, 1.0f), logits, [](const Row& l) {
          const Row p = softmax_of(l);
          return best_of(within_groups(p, 4, 2, GroupRule::sum_of_two_best, -INFINITY), 4, 1.0, false);
        }) > 0.1);
}

TEST_CASE("exact: a router looks at one token at a time", "[router]") {
  const Tensor<2> logits = random_logits(24, 9);
  const Tensor<1> bias = random_bias(24, 10, -5.0f, 5.0f);
  const std::vector<std::shared_ptr<const Router>> routers{
      std::make_shared<MixtralRouter>(24, 2), std::make_shared<Qwen3MoeRouter>(24, 6, true), std::make_shared<GreedyRouter>(24, 6, 1.0f),
      std::make_shared<GroupLimitedRouter>(24, 6, GroupLimit{8, 3}, 16.0f),
      std::make_shared<NoauxTcRouter>(bias, NoauxTcRouter::Options{.chosen = 6, .limit = {8, 4}, .scaling = 2.5f})};
  for (const auto& router : routers) {
    const Routing together = router->route(logits);
    for (index_t n = 0; n < logits.shape(0); ++n) CHECK(router->route(rows(logits, n, 1))[0] == together[n]);
  }
}

TEST_CASE("ties go to the lowest expert and the lowest group", "[router]") {
  const Tensor<2> logits = zeros<2>({1, 8});
  const auto experts = [&](const Router& router) {
    std::vector<index_t> found;
    const Routing routing = router.route(logits);
    for (const Choice& choice : routing[0]) found.push_back(choice.expert);
    return found;
  };
  CHECK(experts(MixtralRouter(8, 2)) == std::vector<index_t>{0, 1});
  CHECK(experts(GroupLimitedRouter(8, 3, {4, 2}, 1.0f)) == std::vector<index_t>{0, 1, 2});
  Tensor<1> bias = zeros<1>({8});
  bias(6) = bias(7) = 0.5f;
  CHECK(experts(NoauxTcRouter(bias, {.chosen = 3, .limit = {4, 2}})) == std::vector<index_t>{0, 6, 7});
}

TEST_CASE("GShard and Switch drop the tokens that find no room", "[router]") {
  // Six tokens, three experts; all like expert 1 best, and expert 2 next.
  Tensor<2> logits = zeros<2>({6, 3});
  for (index_t n = 0; n < 6; ++n) logits(n, 1) = 2.0f, logits(n, 2) = 1.0f;
  SECTION("Switch: one expert each, two places per expert") {
    const CapacityRouter router(3, 1, 1.0);
    REQUIRE(router.capacity(6) == 2);
    const Routing routing = router.route(logits);
    const double p = std::exp(2.0) / (std::exp(2.0) + std::exp(1.0) + 1.0);
    for (const index_t n : {0, 1}) {
      REQUIRE(routing[n].size() == 1);
      CHECK(routing[n][0].expert == 1);
      CHECK(routing[n][0].weight == Approx(p).epsilon(1e-6));
    }
    for (const index_t n : {2, 3, 4, 5}) CHECK(routing[n].empty());
  }
  SECTION("GShard: two experts each, first choices are served before second ones") {
    logits(5, 0) = 3.0f;  // the last token: expert 0, then expert 1
    const CapacityRouter router(3, 2, 1.0);
    REQUIRE(router.capacity(6) == 4);
    const Routing routing = router.route(logits);
    for (const index_t n : {0, 1, 2, 3}) CHECK(routing[n].size() == 2);
    CHECK(routing[4].empty());            // both are full
    REQUIRE(routing[5].size() == 1);      // expert 0 has room, expert 1 has none
    CHECK(routing[5][0].expert == 0);
    CHECK(routing[0][0].weight + routing[0][1].weight == Approx(1.0).epsilon(1e-6));
    CHECK(routing[5][0].weight == Approx(std::exp(3.0) / (std::exp(3.0) + std::exp(2.0))).epsilon(1e-6));  // not made up to 1
  }
  SECTION("GShard: a first choice is the likelier expert, not the one with the lower number") {
    Tensor<2> liked = zeros<2>({4, 3});
    for (const index_t n : {0, 1}) liked(n, 2) = 2.0f, liked(n, 0) = 1.0f;
    for (const index_t n : {2, 3}) liked(n, 0) = 2.0f, liked(n, 1) = 1.0f;
    const CapacityRouter router(3, 2, 0.75);
    REQUIRE(router.capacity(4) == 2);
    const Routing routing = router.route(liked);
    for (const index_t n : {0, 1}) {  // expert 0 is full of those who like it best
      REQUIRE(routing[n].size() == 1);
      CHECK(routing[n][0].expert == 2);
    }
    for (const index_t n : {2, 3}) CHECK(routing[n].size() == 2);
  }
  SECTION("so a token's experts depend on its neighbours: decode does not repeat prefill") {
    const CapacityRouter router(3, 1, 1.0);
    CHECK(router.route(logits)[5].empty());
    CHECK(router.route(rows(logits, 5, 1))[0].size() == 1);
  }
  CHECK(CapacityRouter(3, 1, 1.25).capacity(6) == 3);
  CHECK(CapacityRouter(8, 2, 1.0).capacity(1) == 1);
}

TEST_CASE("routers around a router", "[router]") {
  const Tensor<2> logits = random_logits(8, 11);
  const auto inner = std::make_shared<MixtralRouter>(8, 3);
  const Routing plain = inner->route(logits);
  Routing seen;
  CHECK(ObservedRouter(inner, [&](const Routing& routing) { seen = routing; }).route(logits) == plain);
  CHECK(seen == plain);
  const Routing without = AblatedRouter(inner, 5).route(logits);
  index_t removed = 0;
  for (index_t n = 0; n < plain.size(); ++n) {
    Choices expected;
    for (const Choice& choice : plain[n])
      if (choice.expert != 5) expected.push_back(choice);
    removed += plain[n].size() - expected.size();
    CHECK(without[n] == expected);
  }
  CHECK(removed > 20);
}

TEST_CASE("routers refuse what they cannot do", "[router]") {
  CHECK_THROWS_AS(MixtralRouter(8, 0), std::invalid_argument);
  CHECK_THROWS_AS(MixtralRouter(8, 9), std::invalid_argument);
  CHECK_THROWS_AS(CapacityRouter(8, 9, 1.0), std::invalid_argument);
  CHECK_THROWS_AS(CapacityRouter(8, 1, 0.0), std::invalid_argument);
  CHECK_THROWS_AS(GroupLimitedRouter(8, 2, {3, 1}, 1.0f), std::invalid_argument);
  CHECK_THROWS_AS(GroupLimitedRouter(8, 2, {4, 0}, 1.0f), std::invalid_argument);
  CHECK_THROWS_AS(GroupLimitedRouter(8, 2, {4, 5}, 1.0f), std::invalid_argument);
  CHECK_THROWS_WITH(GroupLimitedRouter(8, 3, {4, 1}, 1.0f), "router: chooses 3 of 8 experts from 1 of 4 groups");
  CHECK_THROWS_AS(NoauxTcRouter(zeros<1>({8}), {.chosen = 3, .limit = {0, 0}}), std::invalid_argument);
  CHECK_THROWS_AS(MixtralRouter(8, 2).route(zeros<2>({3, 7})), ShapeError);
  CHECK(MixtralRouter(8, 2).route(zeros<2>({0, 8})).empty());
}

TEST_CASE("rules that no published model has make no router: nothing of a rule is left out in silence", "[router]") {
  using Scores = RoutingRule::Scores;
  const Tensor<1> bias = zeros<1>({8});
  const auto makes = [](const RoutingRule& rule) {
    try {
      return make_router(rule) != nullptr;
    } catch (const std::invalid_argument&) {
      return false;
    }
  };
  CHECK(makes({.scores = Scores::softmax_of_chosen, .experts = 8, .chosen = 2}));
  CHECK_FALSE(makes({.scores = Scores::softmax_of_chosen, .experts = 8, .chosen = 2, .limit = {4, 2}}));
  CHECK_FALSE(makes({.scores = Scores::softmax_of_chosen, .experts = 8, .chosen = 2, .normalised = true}));
  CHECK_FALSE(makes({.scores = Scores::softmax_of_chosen, .experts = 8, .chosen = 2, .scaling = 2.0f}));
  CHECK_FALSE(makes({.scores = Scores::softmax_of_chosen, .experts = 8, .chosen = 2, .bias = bias}));
  CHECK(makes({.scores = Scores::softmax, .experts = 8, .chosen = 2, .limit = {4, 2}, .scaling = 2.0f}));
  CHECK(makes({.scores = Scores::softmax, .experts = 8, .chosen = 2, .normalised = true}));
  CHECK_FALSE(makes({.scores = Scores::softmax, .experts = 8, .chosen = 2, .limit = {4, 2}, .normalised = true}));
  CHECK_FALSE(makes({.scores = Scores::softmax, .experts = 8, .chosen = 2, .normalised = true, .scaling = 2.0f}));
  CHECK_FALSE(makes({.scores = Scores::softmax, .experts = 8, .chosen = 2, .bias = bias}));
  CHECK(makes({.scores = Scores::sigmoid_with_bias, .experts = 8, .chosen = 2, .limit = {4, 2}, .normalised = true, .scaling = 2.0f, .bias = bias}));
  CHECK_FALSE(makes({.scores = Scores::sigmoid_with_bias, .experts = 8, .chosen = 2}));
  CHECK_FALSE(makes({.scores = Scores::sigmoid_with_bias, .experts = 9, .chosen = 2, .bias = bias}));
}
