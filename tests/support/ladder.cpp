#include "tests/support/feed.hpp"
#include "tests/support/ladder.hpp"

#include <limits>

#include "tests/support/catch.hpp"
#include "tests/support/random.hpp"
#include "tests/support/temporary.hpp"

namespace kv::test {
namespace {

constexpr double epsilon = 1e-5, theta = 10000.0;
constexpr index_t capacity = 40;

std::shared_ptr<const Linear> linear(const Tensor<2>& weight) { return std::make_shared<Linear>(view(weight)); }

/// Wide enough that attention is sharp: a flat softmax hides a wrong scale.
Tensor<2> weight(index_t outputs, index_t inputs, unsigned seed) {
  const float spread = 2.0f / std::sqrt(static_cast<float>(inputs));
  return random_tensor<2>({outputs, inputs}, seed, -spread, 1.2f * spread);
}

Tensor<1> norm_weight(bool present, index_t size, unsigned seed) {
  return present ? random_tensor<1>({size}, seed, 0.5f, 1.7f) : empty<1>({0});
}

std::vector<float> narrow(const std::vector<double>& values) { return {values.begin(), values.end()}; }

Tensor<2> hidden(index_t rows, const RandomProjection& heads, unsigned seed) {
  return random_tensor<2>({rows, heads.width}, seed);
}

Feeder feeder(const MakeAttention& make, const RandomProjection& heads, index_t sequences = 1) {
  return Feeder(make(heads.projection, {sequences, capacity}), sequences);
}

}  // namespace

RandomProjection::RandomProjection(HeadSizes sizes, index_t model_width, bool norms, unsigned seed) : width(model_width) {
  const auto [H, G, D, W, window] = sizes;
  const Tensor<2> query = weight(H * D, width, seed), key = weight(G * D, width, seed + 1),
                  value = weight(G * W, width, seed + 2), output = weight(width, H * W, seed + 3);
  const Tensor<1> query_norm = norm_weight(norms, D, seed + 4), key_norm = norm_weight(norms, D, seed + 5);
  weights = {.query = oracle::widen(query),
             .key = oracle::widen(key),
             .value = oracle::widen(value),
             .output = oracle::widen(output),
             .query_norm = {query_norm.begin(), query_norm.end()},
             .key_norm = {key_norm.begin(), key_norm.end()},
             .norm_epsilon = epsilon,
             .sizes = sizes,
             .frequencies = oracle::frequencies(D, theta)};
  projection = std::make_shared<GroupedProjection>(
      GroupedProjection::Weights{linear(query), linear(key), linear(value), linear(output), query_norm, key_norm,
                                 static_cast<float>(epsilon)},
      sizes, Rope{narrow(weights.frequencies)});
}

std::vector<RandomProjection> all_kinds_of_heads() {
  std::vector<RandomProjection> kinds;
  kinds.emplace_back(HeadSizes{4, 4, 10, 10}, 24, false, 100);  // multi-head
  kinds.emplace_back(HeadSizes{6, 2, 8, 6}, 28, false, 200);    // grouped; values narrower than keys
  kinds.emplace_back(HeadSizes{5, 1, 18, 18}, 20, true, 300);   // multi-query; wider than a vector, with norms
  kinds.emplace_back(HeadSizes{6, 3, 34, 34}, 36, true, 400);
  kinds.emplace_back(HeadSizes{1, 1, 2, 2}, 7, false, 500);     // as small as it gets
  return kinds;
}

RandomProjection grouped_heads() { return {HeadSizes{6, 2, 8, 6}, 28, true, 600}; }

Feeder::Feeder(std::unique_ptr<Attention> attention, index_t sequences)
    : attention_(std::move(attention)), history_(sequences) {}

Tensor<2> Feeder::operator()(const std::vector<NewRows>& batch) {
  std::vector<Tensor<2>> whole = history_;
  Batch segments;
  Tensor<2> x;
  for (const auto& [sequence, rows_of_it] : batch) {
    whole.at(sequence) = stack(whole.at(sequence), rows_of_it);
    const index_t known = attention_->length(sequence), count = whole[sequence].shape(0) - known;
    segments.push_back({sequence, x.shape(0), count});
    x = stack(x, rows(whole[sequence], known, count));
  }
  const Tensor<2> y = feed(*attention_, x, segments);
  REQUIRE(y.shape(0) == x.shape(0));
  Tensor<2> fresh;
  for (index_t b = 0; b < batch.size(); ++b) {
    const index_t count = batch[b].rows.shape(0);
    fresh = stack(fresh, rows(y, segments[b].first_row + segments[b].rows - count, count));
  }
  history_ = std::move(whole);
  return fresh;
}

void Feeder::truncate(index_t sequence, index_t length) {
  history_.at(sequence) = rows(history_.at(sequence), 0, length);
  if (attention_->length(sequence) > length) attention_->truncate(sequence, length);
}

Tensor<2> feed_in_chunks(Feeder& feeder, index_t sequence, const Tensor<2>& x, const std::vector<index_t>& chunks) {
  Tensor<2> y;
  index_t next = 0;
  for (const index_t chunk : chunks) {
    y = stack(y, feeder(sequence, rows(x, next, chunk)));
    next += chunk;
  }
  return y;
}

Tensor<2> stack(const Tensor<2>& a, const Tensor<2>& b) {
  if (a.size() == 0) return b;
  if (b.size() == 0) return a;
  Tensor<2> both = empty<2>({a.shape(0) + b.shape(0), a.shape(1)});
  put_rows(both, 0, a);
  put_rows(both, a.shape(0), b);
  return both;
}

void agrees_with_the_oracle(const MakeAttention& make) {
  for (const RandomProjection& heads : all_kinds_of_heads())
    for (const index_t tokens : {index_t{1}, index_t{2}, index_t{19}, capacity}) {
      CAPTURE(heads.weights.sizes.query_heads, heads.weights.sizes.key_value_heads, tokens);
      const Tensor<2> x = hidden(tokens, heads, 7);
      const Doubles<2> expected = oracle::attention_layer(oracle::widen(x), heads.weights);
      Feeder whole = feeder(make, heads), stepwise = feeder(make, heads);
      CHECK(close(whole(0, x), expected, 1e-5, "the oracle is in double precision"));
      CHECK(close(feed_in_chunks(stepwise, 0, x, std::vector<index_t>(tokens, 1)), expected, 1e-5,
                  "the oracle is in double precision"));
    }
}

void repeats(const MakeAttention& make, const MakeAttention& previous) {
  for (const RandomProjection& heads : all_kinds_of_heads()) {
    CAPTURE(heads.weights.sizes.query_heads, heads.weights.sizes.key_value_heads);
    const Tensor<2> x = hidden(capacity, heads, 8);
    Feeder reference = feeder(previous, heads), whole = feeder(make, heads), pieces = feeder(make, heads);
    const Tensor<2> expected = reference(0, x);
    CHECK(exact(whole(0, x), expected));
    CHECK(exact(feed_in_chunks(pieces, 0, x, {17, 1, 1, 20, 1}), expected));
  }
}

void chunking_changes_nothing(const MakeAttention& make) {
  const RandomProjection heads = grouped_heads();
  const Tensor<2> x = hidden(capacity, heads, 9);
  Feeder whole = feeder(make, heads);
  const Tensor<2> expected = whole(0, x);
  for (unsigned seed = 1; seed <= 6; ++seed) {
    CAPTURE(seed);
    Feeder pieces = feeder(make, heads);
    CHECK(exact(feed_in_chunks(pieces, 0, x, random_chunks(capacity, seed)), expected));
  }
}

void batch_row_equals_solo_run(const MakeAttention& make) {
  const RandomProjection heads = grouped_heads();
  // Lengths of the three sequences' pieces, call after call; 0: not in this call. Not in the order of their numbers.
  const std::vector<std::vector<index_t>> calls{{11, 1, 23}, {1, 0, 1}, {1, 1, 0}, {3, 7, 1}, {0, 1, 0}, {1, 1, 1}};
  const index_t order[] = {2, 0, 1};
  Feeder together = feeder(make, heads, 3);
  std::vector<Tensor<2>> inputs(3), outputs(3);
  unsigned seed = 20;
  for (const auto& lengths : calls) {
    std::vector<NewRows> batch;
    for (const index_t b : order)
      if (lengths[b] > 0) batch.push_back({b, hidden(lengths[b], heads, ++seed)});
    const Tensor<2> y = together(batch);
    index_t next = 0;
    for (const auto& [b, x] : batch) {
      inputs[b] = stack(inputs[b], x);
      outputs[b] = stack(outputs[b], rows(y, next, x.shape(0)));
      next += x.shape(0);
    }
  }
  for (index_t b = 0; b < 3; ++b) {
    CAPTURE(b);
    Feeder solo = feeder(make, heads);
    CHECK(exact(outputs[b], solo(0, inputs[b])));
  }
}

void looks_back_only(const MakeAttention& make) {
  const RandomProjection heads = grouped_heads();
  const index_t tokens = 12, changed = 7;
  const Tensor<2> x = hidden(tokens, heads, 30);
  Tensor<2> other = x;
  put_rows(other, changed, hidden(1, heads, 31));
  Feeder first = feeder(make, heads), second = feeder(make, heads);
  const Tensor<2> y = first(0, x), z = second(0, other);
  CHECK(exact(rows(z, 0, changed), rows(y, 0, changed)));
  for (index_t t = changed; t < tokens; ++t) {
    CAPTURE(t);
    CHECK_FALSE(exact(rows(z, t, 1), rows(y, t, 1)));
  }
}

void forgets_what_is_truncated(const MakeAttention& make) {
  const RandomProjection heads = grouped_heads();
  const Tensor<2> x = hidden(20, heads, 40);
  Tensor<2> poison = hidden(9, heads, 41);
  poison.fill(std::numeric_limits<float>::quiet_NaN());
  Feeder fresh = feeder(make, heads);
  const Tensor<2> expected = fresh(0, x);
  for (const index_t kept : {index_t{0}, index_t{1}, index_t{13}}) {
    CAPTURE(kept);
    Feeder used = feeder(make, heads, 2);
    const Tensor<2> neighbour = hidden(5, heads, 42);
    Tensor<2> start;
    if (kept > 0) start = used(0, rows(x, 0, kept));
    const Tensor<2> before = used(1, neighbour);
    used({{0, poison}, {1, rows(neighbour, 0, 2)}});
    used.truncate(0, kept);
    used.truncate(1, 5);
    CHECK(used.fed(1) == 5);
    const Tensor<2> rest = feed_in_chunks(used, 0, rows(x, kept, 20 - kept), {1, 4, 1, 14 - kept});
    CHECK(exact(stack(start, rest), expected));
    // the neighbour has kept its own
    Feeder alone = feeder(make, heads);
    const Tensor<2> next = hidden(1, heads, 43);
    CHECK(exact(before, alone(0, neighbour)));
    CHECK(exact(used(1, next), alone(0, next)));
  }
  Feeder used = feeder(make, heads);
  used(0, x);
  CHECK_THROWS_AS(used.attention().truncate(0, 21), std::out_of_range);
  CHECK_THROWS_AS(used.attention().truncate(0, std::numeric_limits<index_t>::max()), std::out_of_range);
  CHECK(exact(used(0, rows(x, 3, 2)), [&] {
    Feeder again = feeder(make, heads);
    again(0, x);
    return again(0, rows(x, 3, 2));
  }()));
}

void refuses_wrong_shapes(const MakeAttention& make) {
  const RandomProjection heads = grouped_heads();
  const Tensor<2> x = hidden(6, heads, 50), next = hidden(2, heads, 51);
  Feeder used = feeder(make, heads, 2), untouched = feeder(make, heads, 2);
  used({{0, x}, {1, next}});
  untouched({{0, x}, {1, next}});
  const index_t known = used.attention().length(0), known_other = used.attention().length(1);
  const Tensor<2> wide = random_tensor<2>({2, heads.width + 1}, 52);
  const std::string message = shape_error_of([&] { feed(used.attention(), wide, {{0, 0, 2}}); });
  CAPTURE(message);
  CHECK(holds(message, "(2," + std::to_string(heads.width + 1) + ")"));
  CHECK(holds(message, "(2," + std::to_string(heads.width) + ")"));
  CHECK(holds(shape_error_of([&] { feed(used.attention(), next, {{0, 0, 1}}); }), "(2)"));  // a row of nobody
  CHECK(holds(shape_error_of([&] { feed(used.attention(), next, {{0, 0, 1}, {1, 1, 2}}); }), "(2)"));
  CHECK(used.attention().length(0) == known);
  CHECK(used.attention().length(1) == known_other);
  CHECK(exact(used({{0, next}, {1, x}}), untouched({{0, next}, {1, x}})));
}

std::string shape_error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const ShapeError& error) {
    const std::string message = error.what();
    CHECK_FALSE(holds(message, "\n"));
    return message;
  }
  return "no ShapeError";
}

}  // namespace kv::test
