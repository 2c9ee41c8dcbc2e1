/// Chapter 7, forgetting by use: every policy chooses as its paper says, loses nothing while the budget holds the text, and
/// never depends on chunks, batches or threads.
#include <cmath>
#include <numeric>
#include <set>

#include "chapters/01_uncached_attention/attend.hpp"
#include "chapters/01_uncached_attention/attention_weights.hpp"
#include "chapters/07_long_context/fastgen.hpp"
#include "chapters/07_long_context/forgetting_attention.hpp"
#include "chapters/07_long_context/forgetting_latents.hpp"
#include "chapters/07_long_context/heavy_hitters.hpp"
#include "chapters/07_long_context/least_recently_used.hpp"
#include "chapters/07_long_context/snap.hpp"
#include "common/files/error.hpp"
#include "common/text/tokenizer.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/decoders.hpp"
#include "tests/support/feed.hpp"
#include "tests/support/instruction_sets.hpp"
#include "tests/support/ladder.hpp"
#include "tests/support/random.hpp"

using namespace kv;
using namespace kv::test;

namespace {

Checkpoint shipped(const char* name) { return Checkpoint(std::filesystem::path(KV_DATA) / name); }

const std::vector<std::string> all_policies{"heavy-hitters", "lru", "snap", "fastgen"};

Stage stage_with(const std::string& name, index_t budget, const char* mass = "70") {
  Stage stage = find_stage(name);
  stage.options.set("budget", std::to_string(budget));
  if (stage.options.has("mass")) stage.options.set("mass", mass);
  return stage;
}

bool runs_on(const std::string& policy, const std::string& model) { return policy != "fastgen" || model == "tiny-gqa"; }

/// All logits of a text whose first `prompt` tokens are a prompt.
Tensor<2> logits_with_prompt(Decoder& decoder, index_t sequence, const std::vector<Token>& tokens, index_t prompt,
                             const std::vector<index_t>& chunks, const std::vector<index_t>& chunks_after) {
  Tensor<2> result = empty<2>({tokens.size(), decoder.vocabulary()});
  put_rows(result, 0, logits_in_chunks(decoder, sequence, part(tokens, 0, prompt), chunks));
  decoder.prompt_ends(sequence);
  put_rows(result, prompt, logits_in_chunks(decoder, sequence, part(tokens, prompt, tokens.size() - prompt), chunks_after));
  return result;
}

Tensor<2> logits_with_prompt(const Checkpoint& checkpoint, const Stage& stage, const std::vector<Token>& tokens, index_t prompt) {
  Decoder decoder = make_decoder(checkpoint, stage, {.sequences = 1, .capacity = tokens.size()});
  return logits_with_prompt(decoder, 0, tokens, prompt, {prompt}, {tokens.size() - prompt});
}

// ---- the policies once more, from their papers, in double precision ----

using Held = std::set<index_t>;  // positions

/// Everything that the query heads of one group have looked at so far. Nothing is forgotten here but what the policy forgets.
struct History {
  index_t heads;
  std::vector<std::vector<std::vector<double>>> weights;  // [t][h][s], 0 where s was not seen
  std::vector<index_t> seen;                              // [t]

  double weight(index_t t, index_t s) const {  // of all heads together
    double sum = 0.0;
    for (index_t h = 0; h < heads; ++h) sum += weights[t][h][s];
    return sum;
  }
  double column(index_t s) const {
    double sum = 0.0;
    for (index_t t = 0; t < weights.size(); ++t) sum += weight(t, s);
    return sum;
  }
};

/// What remains of what is held.
using Remain = std::function<Held(const Held& held, const History& history)>;
struct Paper {
  Remain before_token = [](const Held& held, const History&) { return held; };
  Remain at_prompt_end = [](const Held& held, const History&) { return held; };
};

/// The n positions with the largest values, the older ones first.
Held largest(const Held& of, index_t n, const std::function<double(index_t)>& value) {
  Held left = of, result;
  for (; n > 0 && !left.empty(); --n) {
    index_t best = *left.begin();
    for (const index_t s : left)
      if (value(s) > value(best)) best = s;
    left.erase(best);
    result.insert(best);
  }
  return result;
}

Paper heavy_hitters_paper(index_t budget) {
  return {.before_token = [=](const Held& held, const History& history) {
    if (held.size() < budget) return held;
    Held result = held, old;
    for (const index_t s : held)
      if (held.size() - std::distance(held.begin(), held.find(s)) > budget / 2) old.insert(s);
    index_t least = *old.begin();
    for (const index_t s : old)
      if (history.column(s) < history.column(least)) least = s;
    result.erase(least);
    return result;
  }};
}

Paper lru_paper(index_t budget) {
  return {.before_token = [=](const Held& held, const History& history) {
    if (held.size() < budget) return held;
    const auto last_use = [&](index_t s) {
      index_t use = s;
      for (index_t t = s; t < history.weights.size(); ++t)
        for (index_t h = 0; h < history.heads; ++h)
          if (history.weights[t][h][s] > 1.0 / static_cast<double>(history.seen[t])) use = t;
      return use;
    };
    Held result = held;
    index_t oldest = *held.begin();
    for (const index_t s : held)
      if (last_use(s) < last_use(oldest)) oldest = s;
    result.erase(oldest);
    return result;
  }};
}

Paper snap_paper(index_t budget) {
  return {.at_prompt_end = [=](const Held& held, const History& history) {
    const index_t P = history.weights.size(), w = std::min<index_t>(32, budget / 2);
    if (P <= budget) return held;
    Held old, result;
    for (index_t s = 0; s < P - w; ++s) old.insert(s);
    const auto vote = [&](index_t s) {
      double sum = 0.0;
      for (index_t t = P - w; t < P; ++t) sum += history.weight(t, s);
      return sum;
    };
    result = largest(old, budget - w, [&](index_t s) {
      double sum = 0.0;
      for (int d = -2; d <= 2; ++d)
        if (const auto r = static_cast<long>(s) + d; r >= 0 && r < static_cast<long>(P - w)) sum += vote(static_cast<index_t>(r));
      return sum / 5;
    });
    for (index_t s = P - w; s < P; ++s) result.insert(s);
    return result;
  }};
}

/// What each head was given, for the test to see that all kinds occur.
using Given = std::vector<HeadNeeds>;

Paper fastgen_paper(index_t budget, double mass, const std::vector<TokenKind>& kinds, const std::shared_ptr<Given>& given) {
  const index_t L = budget / 2;
  const auto rows_of = [=](HeadNeeds needs, const Held& held, const History& history) {
    Held result;
    for (const index_t s : held)
      if (kinds[s] == TokenKind::special || (kinds[s] == TokenKind::punctuation && needs != HeadNeeds::special)) result.insert(s);
    if (needs >= HeadNeeds::frequent) result.merge(largest(held, L, [&](index_t s) { return history.column(s); }));
    return result;
  };
  const auto needs = std::make_shared<HeadNeeds>(HeadNeeds::everything);
  return {.before_token =
              [=](const Held& held, const History& history) {
                const index_t t = history.weights.size();
                if (*needs == HeadNeeds::everything || t < budget) return held;
                Held result = rows_of(*needs, held, history);
                for (const index_t s : held)
                  if (*needs == HeadNeeds::local && t - s < L) result.insert(s);
                return result;
              },
          .at_prompt_end =
              [=](const Held& held, const History& history) {
                for (const HeadNeeds each : {HeadNeeds::everything, HeadNeeds::local, HeadNeeds::frequent, HeadNeeds::punctuation,
                                             HeadNeeds::special}) {
                  const Held rows = rows_of(each, held, history);
                  double kept = 0.0, all = 0.0;
                  for (index_t t = 0; t < history.weights.size(); ++t)
                    for (index_t s = 0; s <= t; ++s) {
                      const double weight = history.weight(t, s);
                      all += weight;
                      if (each == HeadNeeds::everything || rows.contains(s) || s == t || (each == HeadNeeds::local && t - s < L))
                        kept += weight;
                    }
                  if (kept >= mass * all) *needs = each;
                }
                given->push_back(*needs);
                return held;
              }};
}

/// One group of query heads through a text.
struct Simulation {
  std::vector<Held> held;  ///< after each token; of the prompt's last one, after its end
  History history;
};

/// @param queries (T,H,D)  @param keys (T,H,D), of each query head  @param window the layer's own
Simulation simulate(const Doubles<3>& queries, const Doubles<3>& keys, index_t prompt, const Paper& paper, double scale,
                    index_t window = no_window) {
  const index_t T = queries.shape(0), H = queries.shape(1), D = queries.shape(2);
  Simulation result{.held = {}, .history = {.heads = H, .weights = {}, .seen = {}}};
  Held held;
  for (index_t t = 0; t < T; ++t) {
    std::erase_if(held, [&](index_t s) { return t - s >= window; });
    held = paper.before_token(held, result.history);
    held.insert(t);
    std::vector<std::vector<double>> weights(H, std::vector<double>(T, 0.0));
    for (index_t h = 0; h < H; ++h) {
      double sum = 0.0;
      for (const index_t s : held) {
        double score = 0.0;
        for (index_t d = 0; d < D; ++d) score += queries(t, h, d) * keys(s, h, d);
        sum += weights[h][s] = std::exp(score * scale);
      }
      for (double& weight : weights[h]) weight /= sum;
    }
    result.history.weights.push_back(weights);
    result.history.seen.push_back(held.size());
    if (t + 1 == prompt) {
      held = paper.at_prompt_end(held, result.history);
      if (t + 1 < T) held = paper.before_token(held, result.history);
    }
    result.held.push_back(held);
  }
  return result;
}

std::vector<index_t> listed(const Held& held) { return {held.begin(), held.end()}; }

/// Heads in double precision: (T,heads,width), turned to their positions if there are frequencies.
Doubles<3> heads_of(const Doubles<2>& projected, index_t heads, const std::vector<double>& norm, double epsilon,
                    const std::vector<double>& frequencies) {
  const index_t T = projected.shape(0), width = projected.shape(1) / heads;
  Doubles<3> result(Shape<3>{T, heads, width}, 0.0);
  for (index_t t = 0; t < T; ++t)
    for (index_t h = 0; h < heads; ++h) {
      std::vector<double> part(width);
      for (index_t d = 0; d < width; ++d) part[d] = projected(t, h * width + d);
      if (!norm.empty()) part = oracle::rms_norm(part, norm, epsilon);
      if (!frequencies.empty()) part = oracle::rotate(part, frequencies, static_cast<double>(t), oracle::Pairs::half_split);
      std::ranges::copy(part, &result(t, h, 0));
    }
  return result;
}

/// Heads first ... first+count-1; or one head, that many times.
Doubles<3> some_heads(const Doubles<3>& of, index_t first, index_t count, bool same) {
  Doubles<3> result(Shape<3>{of.shape(0), count, of.shape(2)}, 0.0);
  for (index_t t = 0; t < of.shape(0); ++t)
    for (index_t h = 0; h < count; ++h)
      for (index_t d = 0; d < of.shape(2); ++d) result(t, h, d) = of(t, same ? first : first + h, d);
  return result;
}

/// A layer whose heads are chosen for as a paper says.
struct LayerSimulation {
  std::vector<Simulation> groups;  // (G)
  Doubles<2> output;               // (T,M)
};

LayerSimulation simulate_layer(const Tensor<2>& x, const oracle::AttentionWeights& weights, index_t prompt,
                               const std::function<Paper()>& paper) {
  const auto [H, G, D, W, window] = weights.sizes;
  const index_t T = x.shape(0), group = H / G;
  const Doubles<2> wide = oracle::widen(x);
  const Doubles<3> q = heads_of(oracle::linear(wide, weights.query), H, weights.query_norm, weights.norm_epsilon, weights.frequencies),
                   k = heads_of(oracle::linear(wide, weights.key), G, weights.key_norm, weights.norm_epsilon, weights.frequencies),
                   v = heads_of(oracle::linear(wide, weights.value), G, {}, 0.0, {});
  LayerSimulation result;
  Doubles<2> mixed(Shape<2>{T, H * W}, 0.0);
  for (index_t g = 0; g < G; ++g) {
    result.groups.push_back(simulate(some_heads(q, g * group, group, false), some_heads(k, g, group, true), prompt, paper(),
                                     1 / std::sqrt(static_cast<double>(D)), window));
    for (index_t t = 0; t < T; ++t)
      for (index_t h = 0; h < group; ++h)
        for (index_t s = 0; s <= t; ++s)
          for (index_t w = 0; w < W; ++w)
            mixed(t, (g * group + h) * W + w) += result.groups[g].history.weights[t][h][s] * v(s, g, w);
  }
  result.output = oracle::linear(mixed, weights.output);
  return result;
}

/// Token by token, with a look at the rows each time.
template <class Layer>
void check_choices(Layer& layer, const Tensor<2>& x, const std::vector<Token>& tokens, index_t prompt,
                   const std::vector<Simulation>& groups, Tensor<2>& output) {
  for (index_t t = 0; t < x.shape(0); ++t) {
    put_rows(output, t, layer.forward(rows(x, t, 1), {{0, 0, 1, t, std::span(tokens).subspan(t, 1)}}));
    if (t + 1 == prompt) layer.prompt_ends(0);
    for (index_t g = 0; g < groups.size(); ++g) {
      CAPTURE(t, g);
      REQUIRE(layer.rows(0).positions(g) == listed(groups[g].held[t]));
    }
  }
}

/// Ids are kinds.
const auto three_kinds =
    std::make_shared<const TokenKinds>(TokenKinds{TokenKind::special, TokenKind::punctuation, TokenKind::word});

/// Token 0 is special, every seventh is punctuation.
std::vector<Token> text_of_kinds(index_t count) {
  std::vector<Token> tokens(count, 2);
  for (index_t i = 0; i < count; i += 7) tokens[i] = i == 0 ? 0 : 1;
  return tokens;
}

MakePolicy policy_of(const std::string& name, index_t budget, double mass = 0.7) {
  return [=](index_t heads) -> std::unique_ptr<ForgettingPolicy> {
    if (name == "heavy-hitters") return std::make_unique<HeavyHitters>(heads, budget, budget);
    if (name == "lru") return std::make_unique<LeastRecentlyUsed>(heads, budget, budget);
    if (name == "snap") return std::make_unique<Snap>(heads, budget);
    return std::make_unique<FastGen>(heads, FastGenSizes{budget, mass}, three_kinds);
  };
}

Paper paper_of(const std::string& name, index_t budget) {
  return name == "heavy-hitters" ? heavy_hitters_paper(budget) : name == "lru" ? lru_paper(budget) : snap_paper(budget);
}

/// The heads of another projection, in a layer with a window, or with values that are no numbers.
class Changed : public HeadProjection {
 public:
  Changed(std::shared_ptr<const HeadProjection> heads, index_t window, Held poisoned = {})
      : heads_(std::move(heads)), window_(window), poisoned_(std::move(poisoned)) {}
  Heads project(const Tensor<2>& x, std::span<const index_t> at) const override {
    Heads heads = heads_->project(x, at);
    for (index_t n = 0; n < at.size(); ++n)
      for (index_t g = 0; poisoned_.contains(at[n]) && g < heads.values.shape(1); ++g)
        std::ranges::fill(row(heads.values, n, g), std::nanf(""));
    return heads;
  }
  Tensor<3> queries(const Tensor<2>& x, std::span<const index_t> at) const override { return heads_->queries(x, at); }
  Tensor<2> output(const Tensor<3>& mixed) const override { return heads_->output(mixed); }
  HeadSizes sizes() const override {
    HeadSizes sizes = heads_->sizes();
    sizes.window = window_;
    return sizes;
  }

 private:
  std::shared_ptr<const HeadProjection> heads_;
  index_t window_;
  Held poisoned_;
};

/// Keys that look at few rows, so that weights differ.
Tensor<2> hidden_rows(index_t count, index_t width, unsigned seed) { return random_tensor<2>({count, width}, seed, -3.0f, 3.5f); }

}  // namespace

TEST_CASE("rows that are taken out leave the others in order", "[forgetting]") {
  std::vector<int> numbers{0, 1, 2, 3, 4, 5, 6, 7};
  take_out(numbers, std::vector<index_t>{0, 3, 4, 7});
  CHECK(numbers == std::vector{1, 2, 5, 6});
  std::vector<int> pairs{0, 0, 1, 1, 2, 2, 3, 3};
  take_out(pairs, std::vector<index_t>{1, 2}, 2);
  CHECK(pairs == std::vector{0, 0, 3, 3});
  take_out(pairs, std::vector<index_t>{0, 1}, 2);
  CHECK(pairs.empty());
}

TEST_CASE("kept rows are the rows of a cache that never had the others, whatever these were", "[forgetting]") {
  const index_t D = 8, W = 6, G = 2, count = 300;
  Tensor<3> keys = random_tensor<3>({count, G, D}, 1), values = random_tensor<3>({count, G, W}, 2);
  Tensor<3> left_keys = empty<3>({200, G, D}), left_values = empty<3>({200, G, W});
  std::vector<index_t> dropped;
  for (index_t n = 0; n < count; ++n)
    if (n % 3 == 1) {
      dropped.push_back(n);
      for (index_t g = 0; g < G; ++g) {
        std::ranges::fill(row(keys, n, g), std::nanf(""));
        std::ranges::fill(row(values, n, g), std::nanf(""));
      }
    } else {
      put_rows(left_keys, n - dropped.size(), rows(keys, n, 1));
      put_rows(left_values, n - dropped.size(), rows(values, n, 1));
    }
  KeptRows kept(layout_of(HeadSizes{4, G, D, W}), 10);
  for (index_t n = 0; n < count; ++n) kept.append(keys, values, n, n);
  for (index_t g = 0; g < G; ++g) kept.drop(g, dropped);
  const Tensor<3> queries = random_tensor<3>({1, 4, D}, 3);
  const ContiguousRows left(left_keys, left_values, 200);
  CHECK(exact(attend(queries, kept, {.position = 299}, 0.3f), attend(queries, left, {.position = 299}, 0.3f)));
  CHECK(exact(attention_weights(queries, kept, {.position = 299}, 0.3f), attention_weights(queries, left, {.position = 299}, 0.3f)));
  CHECK(kept.positions(1)[0] == 0);
  CHECK(kept.positions(1)[199] == 299);
}

TEST_CASE("the example of the chapter", "[forgetting]") {
  const std::vector<std::vector<float>> weights{{1.0f}, {0.7f, 0.3f}, {0.6f, 0.1f, 0.3f}, {0.1f, 0.3f, 0.2f, 0.4f}};
  const std::vector<Token> tokens{0, 1, 2, 2};
  const auto policy_after_four = [&](const std::string& name, double mass) {
    KeptRows rows({.heads = 1, .key_width = 4, .value_offset = 4, .value_width = 1}, 4);
    auto policy = policy_of(name, 4, mass)(1);
    for (index_t t = 0; t < 4; ++t) {
      Tensor<3> query = zeros<3>({1, 1, 4}), key = zeros<3>({1, 1, 4});
      key(0, 0, t) = 1.0f;
      for (index_t s = 0; s <= t; ++s) query(0, 0, s) = std::log(weights[t][s]);
      rows.append(key, zeros<3>({1, 1, 1}), 0, t);
      policy->after({t, tokens[t], query, rows, 1.0f});
    }
    policy->prompt_ends(rows);
    return policy;
  };
  CHECK(policy_after_four("heavy-hitters", 0)->victims(0) == std::vector<index_t>{1});
  CHECK(policy_after_four("lru", 0)->victims(0) == std::vector<index_t>{0});
  CHECK(policy_after_four("fastgen", 0.84)->victims(0) == std::vector<index_t>{1, 2, 3});
  CHECK(policy_after_four("fastgen", 0.86)->victims(0) == std::vector<index_t>{2, 3});
  CHECK(policy_after_four("fastgen", 0.94)->victims(0) == std::vector<index_t>{2, 3});
  CHECK(policy_after_four("fastgen", 0.96)->victims(0) != std::vector<index_t>{2, 3});
}

TEST_CASE("heavy-hitters, lru and snap choose what their papers say, in double precision", "[forgetting]") {
  const std::string name = GENERATE("heavy-hitters", "lru", "snap");
  const index_t budget = GENERATE(2, 7, 24, 90), T = 130, prompt = 110;
  const RandomProjection heads = grouped_heads();
  const Tensor<2> x = hidden_rows(T, heads.width, 20);
  CAPTURE(name, budget);
  const LayerSimulation expected = simulate_layer(x, heads.weights, prompt, [&] { return paper_of(name, budget); });
  ForgettingAttention layer(heads.projection, {.sequences = 1, .capacity = T}, budget, policy_of(name, budget));
  Tensor<2> output = empty<2>({T, heads.width});
  check_choices(layer, x, text_of_kinds(T), prompt, expected.groups, output);
  CHECK(close(output, expected.output, 2e-5, "f32 against double precision"));
}

TEST_CASE("fastgen gives each head what its paper says, in double precision", "[forgetting]") {
  const index_t budget = 24, T = 90, prompt = 70;
  const RandomProjection heads = grouped_heads();
  const Tensor<2> x = hidden_rows(T, heads.width, 21);
  const std::vector<Token> tokens = text_of_kinds(T);
  Given all_given;
  for (const double mass : {0.0, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0}) {
    CAPTURE(mass);
    const auto given = std::make_shared<Given>();
    const TokenKinds kinds = [&] {
      TokenKinds result;
      for (const Token token : tokens) result.push_back((*three_kinds)[static_cast<index_t>(token)]);
      return result;
    }();
    const LayerSimulation expected =
        simulate_layer(x, heads.weights, prompt, [&] { return fastgen_paper(budget, mass, kinds, given); });
    const FastGen* policy = nullptr;
    ForgettingAttention layer(heads.projection, {.sequences = 1, .capacity = T}, 0, [&](index_t G) {
      auto made = std::make_unique<FastGen>(G, FastGenSizes{budget, mass}, three_kinds);
      policy = made.get();
      return made;
    });
    Tensor<2> output = empty<2>({T, heads.width});
    check_choices(layer, x, tokens, prompt, expected.groups, output);
    CHECK(close(output, expected.output, 2e-5, "f32 against double precision"));
    CHECK(policy->needs() == *given);
    all_given.insert(all_given.end(), given->begin(), given->end());
  }
  for (const HeadNeeds needs :
       {HeadNeeds::special, HeadNeeds::punctuation, HeadNeeds::frequent, HeadNeeds::local, HeadNeeds::everything})
    CHECK(std::ranges::count(all_given, needs) >= 1);
}

TEST_CASE("on latents the heads choose together", "[forgetting]") {
  const std::string name = GENERATE("heavy-hitters", "lru", "snap");
  const index_t budget = 20, T = 100, prompt = 80;
  const Checkpoint checkpoint = shipped("tiny-mla");
  const auto latents = latent_projection(checkpoint, 1);
  const Tensor<2> x = hidden_rows(T, latents->latent_sizes().width, 22);
  std::vector<index_t> at(T);
  std::iota(at.begin(), at.end(), index_t{0});
  const Heads heads = latents->project(x, at);  // keys of every head in full, which the stage never makes
  const Simulation expected = simulate(oracle::widen(heads.queries), oracle::widen(heads.keys), prompt, paper_of(name, budget),
                                       1 / std::sqrt(static_cast<double>(latents->latent_sizes().key_width())));
  ForgettingLatents layer(latents, absorption(checkpoint, 1), {.sequences = 1, .capacity = T}, budget, policy_of(name, budget));
  Tensor<2> output = empty<2>({T, x.shape(1)});
  CAPTURE(name);
  check_choices(layer, x, text_of_kinds(T), prompt, {expected}, output);
}

TEST_CASE("of equal rows the oldest goes", "[forgetting]") {
  const std::string name = GENERATE("heavy-hitters", "lru");
  const index_t budget = 8;
  const RandomProjection heads = grouped_heads();
  const Tensor<2> x = zeros<2>({20, heads.width});  // all scores 0: every row gets its fair share and no more
  ForgettingAttention layer(heads.projection, {.sequences = 1, .capacity = 20}, budget, policy_of(name, budget));
  feed(layer, x, {{0, 0, 20}});
  CAPTURE(name);
  CHECK(layer.rows(0).positions(0).back() == 19);
  if (name == "lru") CHECK(layer.rows(0).positions(0) == std::vector<index_t>{12, 13, 14, 15, 16, 17, 18, 19});
  ForgettingAttention snap(heads.projection, {.sequences = 1, .capacity = 20}, 0, policy_of("snap", budget));
  feed(snap, x, {{0, 0, 20}});
  snap.prompt_ends(0);
  CHECK(snap.rows(0).positions(0) == std::vector<index_t>{2, 3, 4, 5, 16, 17, 18, 19});  // 0 and 1 have fewer neighbours
}

TEST_CASE("a budget for the whole text loses nothing", "[forgetting]") {
  const auto [model, same] = GENERATE(table<const char*, const char*>({{"tiny-gqa", "preallocated"}, {"tiny-mla", "absorbed"}}));
  const Checkpoint checkpoint = shipped(model);
  const std::vector<Token> tokens = random_tokens(300, 1000, 8);
  const Tensor<2> expected = whole_logits(checkpoint, find_stage(same), tokens);
  for (const std::string& name : all_policies)
    for (const index_t budget : {300, 1000}) {
      if (!runs_on(name, model)) continue;
      CAPTURE(model, name, budget);
      Decoder decoder = make_decoder(checkpoint, stage_with(name, budget), {.sequences = 1, .capacity = 300});
      CHECK(exact(logits_with_prompt(decoder, 0, tokens, 201, {200, 1}, {90, 9}), expected));
    }
}

TEST_CASE("with a smaller budget a token's logits depend on the tokens before it alone", "[forgetting]") {
  const std::string model = GENERATE("tiny-gqa", "tiny-mla");
  const Checkpoint checkpoint = shipped(model.c_str());
  const std::vector<Token> tokens = random_tokens(150, 1000, 9), other = random_tokens(70, 1000, 10);
  const Tensor<2> full = whole_logits(checkpoint, find_stage("preallocated"), tokens);
  for (const std::string& name : all_policies) {
    if (!runs_on(name, model)) continue;
    CAPTURE(model, name);
    const Stage stage = stage_with(name, 40);
    const Tensor<2> expected = logits_with_prompt(checkpoint, stage, tokens, 110);
    const Tensor<2> expected_other = logits_with_prompt(checkpoint, stage, other, 69);
    CHECK_FALSE(close(expected, full, 1e-3, "rows were given up"));
    for (const auto& [set, threads] : {std::pair(available_instruction_sets().front(), index_t{2}), {instruction_set(), index_t{1}}}) {
      const Machine machine(set, threads);
      CAPTURE(kv::name(set), threads);
      Decoder decoder = make_decoder(checkpoint, stage, {.sequences = 2, .capacity = 150});
      logits_in_chunks(decoder, 0, part(tokens, 0, 80), {1, 60, 1, 1, 17});
      const Tensor<2> together = decoder.logits({{1, part(other, 0, 69)}, {0, part(tokens, 80, 30)}});
      CHECK(exact(rows(together, 0, 69), rows(expected_other, 0, 69)));
      CHECK(exact(rows(together, 69, 30), rows(expected, 80, 30)));
      decoder.prompt_ends(0);
      decoder.prompt_ends(1);
      const Tensor<2> after = decoder.logits({{0, part(tokens, 110, 1)}, {1, part(other, 69, 1)}});
      CHECK(exact(rows(after, 0, 1), rows(expected, 110, 1)));
      CHECK(exact(rows(after, 1, 1), rows(expected_other, 69, 1)));
      CHECK(exact(logits_in_chunks(decoder, 0, part(tokens, 111, 39), {30, 1, 8}), rows(expected, 111, 39)));
    }
  }
}

TEST_CASE("snap and fastgen give up nothing before they are told that a prompt has ended", "[forgetting]") {
  const Checkpoint checkpoint = shipped("tiny-gqa");
  const std::vector<Token> tokens = random_tokens(200, 1000, 11);
  const Tensor<2> expected = whole_logits(checkpoint, find_stage("preallocated"), tokens);
  for (const char* name : {"snap", "fastgen"}) CHECK(exact(whole_logits(checkpoint, stage_with(name, 20), tokens), expected));
}

TEST_CASE("rows that were given up by use are never read again", "[forgetting]") {
  const std::string name = GENERATE("heavy-hitters", "lru", "snap", "fastgen");
  const index_t T = 160, prompt = 120, budget = 30, M = grouped_heads().width;
  const auto heads = grouped_heads().projection;
  const Tensor<2> x = hidden_rows(T, M, 12);
  const std::vector<Token> tokens = text_of_kinds(T);
  const auto run = [&](const Held& poisoned, Held* given_up) {
    ForgettingAttention layer(std::make_shared<Changed>(heads, no_window, poisoned), {.sequences = 1, .capacity = T}, 0,
                              policy_of(name, budget, 0.2));
    Tensor<2> output = empty<2>({T, M});
    put_rows(output, 0, layer.forward(rows(x, 0, prompt), {{0, 0, prompt, 0, std::span(tokens).first(prompt)}}));
    layer.prompt_ends(0);
    if (given_up)
      for (index_t s = 0; s < prompt; ++s) given_up->insert(s);
    for (index_t g = 0; given_up && g < layer.rows(0).heads(); ++g)
      for (const index_t s : layer.rows(0).positions(g)) given_up->erase(s);
    put_rows(output, prompt,
             layer.forward(rows(x, prompt, T - prompt), {{0, 0, T - prompt, prompt, std::span(tokens).subspan(prompt)}}));
    return output;
  };
  Held given_up;
  const Tensor<2> clean = run({}, &given_up), poisoned = run(given_up, nullptr);
  CAPTURE(name, given_up.size());
  REQUIRE(given_up.size() > 20);
  CHECK(std::isnan(poisoned(*given_up.begin(), 0)));
  CHECK(exact(rows(poisoned, prompt, T - prompt), rows(clean, prompt, T - prompt)));
}

TEST_CASE("what a policy holds is flat and as counted", "[forgetting]") {
  const std::string name = GENERATE("heavy-hitters", "lru");
  const index_t budget = 30;
  const RandomProjection heads = grouped_heads();
  const auto [H, G, D, W, window] = heads.weights.sizes;
  const std::size_t row = (D + W) * 4 + 8 + 8;  // its place in the text and the policy's note
  ForgettingAttention layer(heads.projection, {.sequences = 1, .capacity = 500}, budget, policy_of(name, budget));
  CHECK(layer.state_bytes() == StateBytes{G * budget * row, 0});
  feed(layer, hidden_rows(5, heads.width, 13), {{0, 0, 5}});
  CHECK(layer.state_bytes() == StateBytes{G * budget * row, G * 5 * row});
  for (const index_t more : {30, 1, 400}) {
    feed(layer, hidden_rows(more, heads.width, 14), {{0, 0, more}});
    CHECK(layer.state_bytes() == StateBytes{G * budget * row, G * budget * row});
  }
  CHECK(layer.length(0) == 436);
}

TEST_CASE("snap holds the prompt until it ends, then its budget and what is generated", "[forgetting]") {
  const index_t budget = 70;
  const RandomProjection heads = grouped_heads();
  const auto [H, G, D, W, window] = heads.weights.sizes;
  const std::size_t row = (D + W) * 4 + 8, queries = 32 * H * D * 4;
  ForgettingAttention layer(heads.projection, {.sequences = 1, .capacity = 500}, 0, policy_of("snap", budget));
  feed(layer, hidden_rows(400, heads.width, 15), {{0, 0, 400}});
  CHECK(layer.state_bytes().used == G * 400 * row + queries);
  layer.prompt_ends(0);
  CHECK(layer.state_bytes() == StateBytes{G * budget * row + queries, G * budget * row + queries});  // memory goes back
  feed(layer, hidden_rows(9, heads.width, 16), {{0, 0, 9}});
  CHECK(layer.state_bytes().used == G * (budget + 9) * row + queries);
  layer.prompt_ends(0);  // another turn
  CHECK(layer.state_bytes().used == G * budget * row + queries);
}

TEST_CASE("fastgen: a head that needs special tokens alone holds these and its latest row", "[forgetting]") {
  const index_t budget = 20, T = 100;
  const RandomProjection heads = grouped_heads();
  const std::vector<Token> tokens = text_of_kinds(T);
  ForgettingAttention layer(heads.projection, {.sequences = 1, .capacity = T}, 0, policy_of("fastgen", budget, 0.0));
  const Tensor<2> x = hidden_rows(T, heads.width, 17);
  layer.forward(rows(x, 0, 90), {{0, 0, 90, 0, std::span(tokens).first(90)}});
  CHECK(layer.rows(0).count(0) == 90);
  layer.prompt_ends(0);
  CHECK(layer.rows(0).positions(0) == std::vector<index_t>{0});
  layer.forward(rows(x, 90, 10), {{0, 0, 10, 90, std::span(tokens).subspan(90)}});
  CHECK(layer.rows(0).positions(1) == std::vector<index_t>{0, 99});
}

TEST_CASE("a layer that gives rows up is cut to nothing and fed again", "[forgetting]") {
  const std::string name = GENERATE("heavy-hitters", "lru");
  const Checkpoint checkpoint = shipped(GENERATE("tiny-gqa", "tiny-mla"));
  const std::vector<Token> tokens = random_tokens(120, 1000, 18);
  const Stage stage = stage_with(name, 25);
  const Tensor<2> expected = whole_logits(checkpoint, stage, tokens);
  Decoder decoder = make_decoder(checkpoint, stage, {.sequences = 1, .capacity = 120});
  decoder.logits(0, part(tokens, 0, 100));
  decoder.truncate(0, 100);
  CHECK(decoder.remembered(0) == 100);
  decoder.truncate(0, 99);
  CHECK(decoder.remembered(0) == 0);
  CHECK(exact(decoder.logits(0, part(tokens, 99, 21)), rows(expected, 99, 21)));
  CHECK_THROWS(decoder.logits(0, {5}));  // no room
  CHECK(decoder.length(0) == 120);
  CHECK_THROWS_AS(decoder.truncate(0, 121), std::out_of_range);
}

TEST_CASE("snap that was cut holds everything until the next prompt ends", "[forgetting]") {
  const Checkpoint checkpoint = shipped("tiny-gqa");
  const std::vector<Token> tokens = random_tokens(150, 1000, 19);
  Decoder decoder = make_decoder(checkpoint, stage_with("snap", 40), {.sequences = 1, .capacity = 150});
  decoder.logits(0, part(tokens, 0, 100));
  decoder.prompt_ends(0);
  decoder.logits(0, part(tokens, 100, 20));
  decoder.truncate(0, 110);
  CHECK(exact(decoder.logits(0, part(tokens, 110, 20)),
              rows(whole_logits(checkpoint, find_stage("preallocated"), tokens), 110, 20)));
  decoder.prompt_ends(0);
  CHECK(exact(decoder.logits(0, part(tokens, 130, 20)),
              rows(logits_with_prompt(checkpoint, stage_with("snap", 40), tokens, 130), 130, 20)));
}

TEST_CASE("a layer's own window is kept, whatever the policy", "[forgetting]") {
  const index_t budget = 8, window = 12, T = 80;
  RandomProjection heads = grouped_heads();
  heads.weights.sizes.window = window;
  const auto windowed = std::make_shared<Changed>(heads.projection, window);
  const Tensor<2> x = hidden_rows(T, heads.width, 23);
  const LayerSimulation expected = simulate_layer(x, heads.weights, T + 1, [&] { return heavy_hitters_paper(budget); });
  ForgettingAttention layer(windowed, {.sequences = 1, .capacity = T}, budget, policy_of("heavy-hitters", budget));
  Tensor<2> output = empty<2>({T, heads.width});
  check_choices(layer, x, text_of_kinds(T), T + 1, expected.groups, output);
  CHECK(close(output, expected.output, 2e-5, "f32 against double precision"));
}

TEST_CASE("layers whose own window fits the budget are left alone", "[forgetting]") {
  const Checkpoint checkpoint(golden("mistral-window"));  // 16 in both layers
  const std::vector<Token> tokens = random_tokens(100, 97, 24);
  const Tensor<2> expected = logits_with_prompt(checkpoint, find_stage("ring"), tokens, 60);
  for (const std::string& name : all_policies) {
    CAPTURE(name);
    CHECK(exact(logits_with_prompt(checkpoint, stage_with(name, 16), tokens, 60), expected));
    if (name != "snap" && name != "fastgen")
      CHECK_FALSE(exact(logits_with_prompt(checkpoint, stage_with(name, 9), tokens, 60), expected));
  }
}

TEST_CASE("kinds of tokens are read from the tokenizer", "[forgetting]") {
  const Checkpoint checkpoint = shipped("tiny-gqa");
  const Tokenizer tokenizer(checkpoint.directory() / "tokenizer.json");
  const auto kinds = token_kinds(checkpoint);
  REQUIRE(kinds->size() == tokenizer.size());
  const auto kind = [&](const char* text) {
    const std::vector<Token> tokens = tokenizer.encode(text);
    REQUIRE(tokens.size() == 1);
    return kinds->at(static_cast<index_t>(tokens[0]));
  };
  CHECK(kind(".") == TokenKind::punctuation);
  CHECK(kind(",") == TokenKind::punctuation);
  CHECK(kind(" the") == TokenKind::word);
  CHECK(kind(" ") == TokenKind::word);
  CHECK(std::ranges::count(*kinds, TokenKind::special) >= 1);
  for (index_t id = 0; id < kinds->size(); ++id)
    CHECK((kinds->at(id) == TokenKind::special) == tokenizer.is_special(static_cast<Token>(id)));
  CHECK(token_kinds(Checkpoint(golden("mistral-window")))->empty());
}

TEST_CASE("what cannot be is said by name", "[forgetting]") {
  CHECK(holds(error_of([] { make_decoder(shipped("tiny-mla"), find_stage("fastgen"), {.sequences = 1, .capacity = 8}); }),
              "'fastgen' does not run on"));
  Stage stage = find_stage("fastgen");
  CHECK(holds(error_of([&] { stage.options.set("mass", "101"); }), "--mass 101"));
  CHECK(holds(error_of([&] { stage.options.set("budget", "0"); }), "--budget 0: needs a whole number from 1 to"));
  CHECK(holds(error_of([&] { stage.options.set("sinks", "1"); }), "sinks"));
}
