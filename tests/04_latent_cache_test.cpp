/// One layer of multi-head latent attention: projection, cache, and every form of reading it, against loops written from
/// the formulas. Whole checkpoints are in 04_latent_checkpoints_test.cpp.
#include <cmath>
#include <limits>

#include "chapters/04_latent_cache/attend_latents.hpp"
#include "chapters/04_latent_cache/cost.hpp"
#include "chapters/04_latent_cache/latent_cache.hpp"
#include "chapters/models/latent_config.hpp"
#include "tests/support/latent_cases.hpp"

using namespace kv;
using namespace kv::test::latent;

namespace {

constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();
constexpr double f32_tolerance = 1e-5;  // relative to the largest output: absorption changes the order of the sums

std::unique_ptr<Attention> layer(const char* stage, const Checkpoint& checkpoint, index_t capacity,
                                 index_t sequences = 1) {
  return make_attention(checkpoint, find_stage(stage), 1, {.sequences = sequences, .capacity = capacity});
}

Tensor<2> run(const char* stage, const Checkpoint& checkpoint, const Tensor<2>& x) {
  return layer(stage, checkpoint, x.shape(0))->forward(x, {{0, 0, x.shape(0)}});
}

index_t width(const Checkpoint& checkpoint) { return latent_config(checkpoint.config()).sizes.width; }

constexpr const char* mla_stages[]{"uncached", "concat", "preallocated", "absorbed", "decompressed", "latent"};
constexpr const char* latent_stages[]{"absorbed", "decompressed", "latent"};

}  // namespace

TEST_CASE("every stage computes multi-head latent attention", "[latent]") {
  const char* name = GENERATE(from_range(std::begin(latent_cases), std::end(latent_cases)));
  const char* stage = GENERATE(from_range(std::begin(mla_stages), std::end(mla_stages)));
  CAPTURE(name, stage);
  const Checkpoint checkpoint(golden_folder(name));
  const Tensor<2> x = hidden_states(90, width(checkpoint), 1);
  CHECK(relative_difference(run(stage, checkpoint, x), LatentOracle<double>(checkpoint, 1).expanded(x)) < f32_tolerance);
}

TEST_CASE("stages on heads and decompressed are equal bit for bit", "[latent]") {
  const char* name = GENERATE(from_range(std::begin(latent_cases), std::end(latent_cases)));
  const char* stage = GENERATE("concat", "preallocated", "decompressed");
  CAPTURE(name, stage);
  const Checkpoint checkpoint(golden_folder(name));
  const Tensor<2> x = hidden_states(41, width(checkpoint), 2);
  const Tensor<2> expected = run("uncached", checkpoint, x);
  auto attention = layer(stage, checkpoint, 41);
  CHECK(equal_bits(run_in_chunks(*attention, x, random_chunks(41, 7, 3)), expected));
}

TEST_CASE("the three forms are one function: within 1e-12 in double precision", "[latent]") {
  const char* name = GENERATE(from_range(std::begin(latent_cases), std::end(latent_cases)));
  CAPTURE(name);
  const Checkpoint checkpoint(golden_folder(name));
  const Tensor<2> x = hidden_states(40, width(checkpoint), 4);
  const LatentOracle<double> in_double(checkpoint, 1);
  CHECK(relative_difference(in_double.absorbed(x), in_double.expanded(x)) < 1e-12);
  CHECK(relative_difference(in_double.decompressed(x), in_double.expanded(x)) < 1e-12);
  const LatentOracle<float> in_float(checkpoint, 1);
  CHECK(relative_difference(in_float.absorbed(x), in_float.expanded(x)) < f32_tolerance);
  CHECK(relative_difference(in_float.decompressed(x), in_float.expanded(x)) < f32_tolerance);
}

TEST_CASE("a well-known mistake changes outputs by more than a hundred times the tolerance", "[latent]") {
  struct Case {
    const char* text;
    Mistake mistake;
    const char* checkpoint;
  };
  const Case each = GENERATE(values<Case>({
      {"half-split RoPE", Mistake::half_split_rope, "deepseek-v3-dense"},
      {"half-split RoPE, YaRN", Mistake::half_split_rope, "deepseek-v2-yarn"},
      {"scale 1/sqrt(R+P)", Mistake::scale_of_latent_row, "deepseek-v3-dense"},
      {"scale 1/sqrt(R+P), YaRN", Mistake::scale_of_latent_row, "deepseek-v3-yarn"},
      {"cached before the norm", Mistake::cached_before_norm, "deepseek-v2-dense"},
      {"cached before the norm, YaRN", Mistake::cached_before_norm, "deepseek-v3-yarn"},
      {"cached before the rotation", Mistake::cached_before_rotation, "deepseek-v3-dense"},
      {"cached before the rotation, YaRN", Mistake::cached_before_rotation, "deepseek-v2-yarn"},
      {"YaRN decided by capacity, original length 128", Mistake::yarn_by_capacity, "deepseek-v2-yarn"},
      {"YaRN decided by capacity, original length 64", Mistake::yarn_by_capacity, "deepseek-v3-yarn"},
      {"softmax factor missing, V2", Mistake::no_softmax_factor, "deepseek-v2-yarn"},
      {"softmax factor missing, V3", Mistake::no_softmax_factor, "deepseek-v3-yarn"},
      {"m(mscale) in place of the quotient, V2", Mistake::magnitude_without_quotient, "deepseek-v2-yarn"},
      {"m(mscale) in place of the quotient, V3", Mistake::magnitude_without_quotient, "deepseek-v3-yarn"},
      {"mask off by one", Mistake::sees_one_ahead, "deepseek-v3-dense"},
  }));
  CAPTURE(each.text);
  const Checkpoint checkpoint(golden_folder(each.checkpoint));
  const Tensor<2> x = hidden_states(50, width(checkpoint), 5);  // shorter than every original length
  const Rows<double> wrong = LatentOracle<double>(checkpoint, 1, each.mistake).expanded(x);
  const Rows<double> right = LatentOracle<double>(checkpoint, 1).expanded(x);
  CHECK(relative_difference(wrong, right) > 100 * f32_tolerance);
  CHECK(relative_difference(run("preallocated", checkpoint, x), wrong) > 100 * f32_tolerance);
  CHECK(relative_difference(run("absorbed", checkpoint, x), wrong) > 100 * f32_tolerance);
}

TEST_CASE("one token does not notice a wrong layout or scale, so no test here has one", "[latent]") {
  const Checkpoint checkpoint(golden_folder("deepseek-v3-dense"));
  const Tensor<2> x = hidden_states(1, width(checkpoint), 6);
  const Rows<double> right = LatentOracle<double>(checkpoint, 1).expanded(x);
  for (const Mistake mistake : {Mistake::half_split_rope, Mistake::scale_of_latent_row})
    CHECK(relative_difference(LatentOracle<double>(checkpoint, 1, mistake).expanded(x), right) == 0.0);
}

TEST_CASE("the cached row is the normed latent and the rotated key", "[latent]") {
  const char* name = GENERATE("deepseek-v2-yarn", "deepseek-v3-dense");
  CAPTURE(name);
  const Checkpoint checkpoint(golden_folder(name));
  const auto projection = latent_projection(checkpoint, 1);
  const Tensor<2> x = hidden_states(30, width(checkpoint), 7);
  std::vector<index_t> positions(30);
  for (index_t n = 0; n < 30; ++n) positions[n] = n;
  const Tensor<2> found = projection->latents(x, positions);
  CHECK(relative_difference(found, LatentOracle<double>(checkpoint, 1).latents(x)) < 1e-6);
  for (const Mistake mistake : {Mistake::cached_before_norm, Mistake::cached_before_rotation, Mistake::half_split_rope})
    CHECK(relative_difference(found, LatentOracle<double>(checkpoint, 1, mistake).latents(x)) > 1e-2);
}

TEST_CASE("the shared part of the key is the same in every head", "[latent]") {
  const Checkpoint checkpoint(golden_folder("deepseek-v3-dense"));
  const LatentSizes sizes = latent_config(checkpoint.config()).sizes;
  const auto projection = latent_projection(checkpoint, 1);
  const Tensor<2> latents = hidden_states(5, sizes.row_width(), 8);
  const Tensor<3> keys = projection->expand(latents).keys;
  for (index_t s = 0; s < 5; ++s)
    for (index_t h = 0; h < sizes.heads; ++h)
      for (index_t i = 0; i < sizes.rope_width; ++i)
        CHECK(keys(s, h, sizes.plain_width + i) == latents(s, sizes.rank + i));
}

TEST_CASE("absorbed: chunks change no bit", "[latent]") {
  const char* name = GENERATE("deepseek-v2-yarn", "deepseek-v3-dense", "deepseek-v3-fp8");
  const unsigned seed = GENERATE(range(10u, 16u));
  CAPTURE(name, seed);
  const Checkpoint checkpoint(golden_folder(name));
  const Tensor<2> x = hidden_states(70, width(checkpoint), seed);
  auto attention = layer("absorbed", checkpoint, 70);
  CHECK(equal_bits(run_in_chunks(*attention, x, random_chunks(70, seed % 2 == 0 ? 3 : 40, seed)),
                   run("absorbed", checkpoint, x)));
}

TEST_CASE("latent: chunks change the form, and the result by no more than the tolerance", "[latent]") {
  const Checkpoint checkpoint(golden_folder("deepseek-v3-yarn"));
  const unsigned seed = GENERATE(range(20u, 24u));
  const Tensor<2> x = hidden_states(70, width(checkpoint), seed);
  auto attention = layer("latent", checkpoint, 70);
  CHECK(relative_difference(run_in_chunks(*attention, x, random_chunks(70, 30, seed)),
                            run("uncached", checkpoint, x)) < f32_tolerance);
}

TEST_CASE("latent: a first prompt equals decompressed, a decode step equals absorbed, bit for bit", "[latent]") {
  const Checkpoint checkpoint(golden_folder("deepseek-v3-dense"));
  const Tensor<2> x = hidden_states(65, width(checkpoint), 25);
  auto latent = layer("latent", checkpoint, 65), absorbed = layer("absorbed", checkpoint, 65),
       decompressed = layer("decompressed", checkpoint, 65);
  const Tensor<2> prompt = rows(x, 0, 64), step = rows(x, 64, 1);
  const auto feed = [](Attention& attention, const Tensor<2>& rows) {
    return kv::test::feed(attention, rows, {{0, 0, rows.shape(0)}});
  };
  const Tensor<2> from_prompt = feed(*latent, prompt);
  CHECK(equal_bits(from_prompt, feed(*decompressed, prompt)));
  CHECK_FALSE(equal_bits(from_prompt, feed(*absorbed, prompt)));
  const Tensor<2> from_step = feed(*latent, step);
  CHECK(equal_bits(from_step, feed(*absorbed, step)));
  CHECK_FALSE(equal_bits(from_step, feed(*decompressed, step)));
}

TEST_CASE("a batch row equals its solo run, bit for bit", "[latent]") {
  const char* stage = GENERATE(from_range(std::begin(latent_stages), std::end(latent_stages)));
  CAPTURE(stage);
  const Checkpoint checkpoint(golden_folder("deepseek-v2-yarn"));
  const index_t M = width(checkpoint);
  auto together = layer(stage, checkpoint, 40, 3);
  std::vector<std::unique_ptr<Attention>> alone;
  for (int b = 0; b < 3; ++b) alone.push_back(layer(stage, checkpoint, 40));
  // Prompts beside decode steps, in another order every time: stage `latent` reads both forms in one batch.
  const std::vector<std::vector<std::pair<index_t, index_t>>> batches{
      {{1, 17}, {0, 1}, {2, 5}}, {{2, 1}, {1, 1}}, {{0, 20}, {1, 1}, {2, 1}}, {{0, 1}, {2, 9}, {1, 1}}};
  unsigned seed = 30;
  for (const auto& lengths : batches) {
    Batch batch;
    index_t N = 0;
    for (const auto& [sequence, T] : lengths) {
      batch.push_back({sequence, N, T});
      N += T;
    }
    const Tensor<2> x = hidden_states(N, M, seed++);
    const Tensor<2> result = kv::test::feed(*together, x, batch);
    for (const auto& [sequence, first, T, position, tokens] : batch) {
      CAPTURE(sequence, first, T);
      CHECK(equal_bits(rows(result, first, T), kv::test::feed(*alone[sequence], rows(x, first, T), {{0, 0, T}})));
    }
  }
}

TEST_CASE("a later token changes no earlier output", "[latent]") {
  const char* stage = GENERATE(from_range(std::begin(latent_stages), std::end(latent_stages)));
  CAPTURE(stage);
  const Checkpoint checkpoint(golden_folder("deepseek-v3-dense"));
  Tensor<2> x = hidden_states(20, width(checkpoint), 40);
  const Tensor<2> before = run(stage, checkpoint, x);
  x(12, 3) += 1.0f;
  const Tensor<2> after = run(stage, checkpoint, x);
  CHECK(equal_bits(rows(before, 0, 12), rows(after, 0, 12)));
  for (index_t n = 12; n < 20; ++n) CHECK_FALSE(equal_bits(rows(before, n, 1), rows(after, n, 1)));
}

TEST_CASE("a full cache refuses and keeps its state", "[latent]") {
  const char* stage = GENERATE(from_range(std::begin(latent_stages), std::end(latent_stages)));
  CAPTURE(stage);
  const Checkpoint checkpoint(golden_folder("deepseek-v3-dense"));
  const Tensor<2> x = hidden_states(12, width(checkpoint), 41);
  const Tensor<2> expected = rows(run("absorbed", checkpoint, x), 8, 4);
  auto attention = layer(stage, checkpoint, 12, 2);
  kv::test::feed(*attention, rows(x, 0, 8), {{0, 0, 8}});
  const std::string message = error_of([&] { kv::test::feed(*attention, rows(x, 0, 5), {{0, 0, 5}}); });
  CHECK(holds(message, "holds 8 of at most 12 tokens; 5 more do not fit"));
  CHECK(holds(error_of([&] { kv::test::feed(*attention, x, {{1, 0, 7}, {0, 7, 5}}); }), "5 more do not fit"));
  CHECK(attention->length(0) == 8);
  CHECK(attention->length(1) == 0);  // the batch was refused as a whole
  CHECK_THROWS_AS(attention->truncate(0, 9), std::out_of_range);
  CHECK(relative_difference(kv::test::feed(*attention, rows(x, 8, 4), {{0, 0, 4}}), expected) < f32_tolerance);  // exactly full
  CHECK(attention->length(0) == 12);
  CHECK(holds(error_of([&] { kv::test::feed(*attention, rows(x, 0, 1), {{0, 0, 1}}); }), "holds 12 of at most 12 tokens"));
}

TEST_CASE("a batch that does not cover its rows is refused, and the state kept", "[latent]") {
  const char* stage = GENERATE(from_range(std::begin(latent_stages), std::end(latent_stages)));
  CAPTURE(stage);
  const Checkpoint checkpoint(golden_folder("deepseek-v3-dense"));
  const Tensor<2> x = hidden_states(6, width(checkpoint), 47);
  auto attention = layer(stage, checkpoint, 12, 2);
  kv::test::feed(*attention, x, {{0, 0, 6}});
  CHECK_THROWS_AS(kv::test::feed(*attention, x, {{0, 0, 5}}), ShapeError);
  CHECK_THROWS_AS(kv::test::feed(*attention, x, {{0, 0, 4}, {1, 4, 3}}), ShapeError);
  CHECK_THROWS_AS(kv::test::feed(*attention, hidden_states(6, width(checkpoint) + 1, 48), {{0, 0, 6}}), ShapeError);
  CHECK_THROWS_AS(kv::test::feed(*attention, x, {{0, 0, 4}, {2, 4, 2}}), std::out_of_range);
  CHECK(attention->length(0) == 6);
  CHECK(attention->length(1) == 0);
}

TEST_CASE("unused rows are never read", "[latent]") {
  const Checkpoint checkpoint(golden_folder("deepseek-v3-dense"));
  const index_t M = width(checkpoint);
  SECTION("rows that truncate has left") {
    const char* stage = GENERATE(from_range(std::begin(latent_stages), std::end(latent_stages)));
    CAPTURE(stage);
    const Tensor<2> x = hidden_states(30, M, 42), poison(Shape<2>{25, M}, not_a_number);
    auto attention = layer(stage, checkpoint, 30), clean = layer(stage, checkpoint, 30);
    kv::test::feed(*attention, rows(x, 0, 5), {{0, 0, 5}});
    kv::test::feed(*attention, poison, {{0, 0, 25}});
    attention->truncate(0, 5);
    kv::test::feed(*clean, rows(x, 0, 5), {{0, 0, 5}});
    const Tensor<2> tail = rows(x, 5, 20);
    CHECK(equal_bits(run_in_chunks(*attention, tail, {1, 12, 7}), run_in_chunks(*clean, tail, {1, 12, 7})));
  }
  SECTION("capacity behind the last token") {
    const index_t T = GENERATE(1, 4, 9);
    Tensor<2> latents = hidden_states(16, 12, 43), poisoned = latents;
    for (index_t c = 9; c < 16; ++c)
      for (float& value : row(poisoned, c)) value = not_a_number;
    const Tensor<2> flat = hidden_states(T * 3, 12, 44);
    Tensor<3> queries = empty<3>({T, 3, 12});
    std::copy(flat.begin(), flat.end(), queries.begin());
    const Tensor<3> found = attend_latents(queries, poisoned, 9, 8, 0.3f);
    CHECK((found == attend_latents(queries, rows(latents, 0, 9), 9, 8, 0.3f)));  // and no NaN: it equals nothing
  }
}

TEST_CASE("attend_latents says what does not fit", "[latent]") {
  const Tensor<3> queries = zeros<3>({4, 2, 10});
  CHECK_THROWS_WITH(attend_latents(queries, zeros<2>({8, 11}), 8, 6, 1.0f),
                    "attend_latents: latents (C,R+P) has shape (8,11), expected (8,10)");
  CHECK_THROWS_AS(attend_latents(queries, zeros<2>({8, 10}), 8, 11, 1.0f), ShapeError);
  CHECK_THROWS_AS(attend_latents(queries, zeros<2>({8, 10}), 9, 6, 1.0f), std::out_of_range);
  CHECK_THROWS_AS(attend_latents(queries, zeros<2>({8, 10}), 3, 6, 1.0f), std::out_of_range);
}

TEST_CASE("the cache says what does not fit", "[latent]") {
  LatentCache cache(4, 6);
  CHECK_THROWS_AS(cache.append(zeros<2>({2, 7}), 0, 2), ShapeError);
  CHECK_THROWS_AS(cache.append(zeros<2>({2, 6}), 1, 2), std::out_of_range);
  CHECK_THROWS_AS(cache.append(zeros<2>({5, 6}), 0, 5), Error);
  CHECK(cache.length() == 0);
  const Tensor<2> latents = hidden_states(4, 6, 45);
  cache.append(latents, 1, 2);
  CHECK(equal_bits(rows(cache.latents(), 0, 2), rows(latents, 1, 2)));
}

TEST_CASE("absorbed keeps (R+P) floats per token, whatever the number of heads", "[latent]") {
  const char* name = GENERATE(from_range(std::begin(latent_cases), std::end(latent_cases)));
  const char* stage = GENERATE(from_range(std::begin(latent_stages), std::end(latent_stages)));
  const index_t capacity = GENERATE(1, 33), sequences = GENERATE(1, 3);
  CAPTURE(name, stage, capacity, sequences);
  const Checkpoint checkpoint(golden_folder(name));
  const LatentSizes sizes = latent_config(checkpoint.config()).sizes;
  const std::size_t row_bytes = (sizes.rank + sizes.rope_width) * sizeof(float);
  auto latents = layer(stage, checkpoint, capacity, sequences);
  CHECK(latents->state_bytes().allocated == row_bytes * capacity * sequences);
  CHECK(latents->state_bytes().used == 0);
  latents->forward(hidden_states(1, width(checkpoint), 28), {{0, 0, 1}});
  CHECK(latents->state_bytes().used == row_bytes);
  const index_t D = sizes.plain_width + sizes.rope_width;
  CHECK(layer("preallocated", checkpoint, capacity, sequences)->state_bytes().allocated ==
        sizes.heads * (D + sizes.value_width) * sizeof(float) * capacity * sequences);
}

TEST_CASE("absorption slices every number format alike", "[latent]") {
  // 4 heads of 24 + 20 rows: slices start and end inside the blocks of 128 that share a scale.
  const Checkpoint checkpoint(golden_folder("deepseek-v3-fp8"));
  const LatentSizes sizes = latent_config(checkpoint.config()).sizes;
  const index_t outputs = sizes.heads * (sizes.plain_width + sizes.value_width);
  const MatrixView up = checkpoint.matrix("model.layers.0.self_attn.kv_b_proj.weight", outputs, sizes.rank);
  REQUIRE(up.type == DType::f8_e4m3);
  REQUIRE(outputs > 128);
  Tensor<2> wide = empty<2>({outputs, sizes.rank});
  for (index_t i = 0; i < outputs; ++i)
    for (index_t j = 0; j < sizes.rank; ++j) wide(i, j) = up.at(i, j);
  const Absorption from_fp8(up, sizes), from_f32(view(wide), sizes);
  const Tensor<2> flat = hidden_states(3 * sizes.heads, sizes.key_width(), 46);
  Tensor<3> queries = empty<3>({3, sizes.heads, sizes.key_width()});
  std::copy(flat.begin(), flat.end(), queries.begin());
  CHECK((from_fp8.absorb(queries) == from_f32.absorb(queries)));
}

TEST_CASE("latent: behind a prefix the cheaper form is that of the rows that are stored, the new ones counted once", "[latent]") {
  const Checkpoint checkpoint(golden_folder("deepseek-v3-dense"));
  const LatentSizes sizes = latent_config(checkpoint.config()).sizes;
  constexpr index_t S = 60;
  index_t border = 1;  // the shortest chunk for which expanding pays
  while (border < S && !expanding_is_cheaper(sizes, border, S)) ++border;
  REQUIRE(border > 1);
  REQUIRE(border < S);
  REQUIRE_FALSE(expanding_is_cheaper(sizes, border, S + border));
  const Tensor<2> x = hidden_states(S, width(checkpoint), 26);
  const auto last = [&](const char* stage, index_t T) {
    auto attention = layer(stage, checkpoint, S);
    kv::test::feed(*attention, rows(x, 0, S - T), {{0, 0, S - T}});
    return kv::test::feed(*attention, rows(x, S - T, T), {{0, 0, T}});
  };
  CHECK(equal_bits(last("latent", border), last("decompressed", border)));
  CHECK(equal_bits(last("latent", border - 1), last("absorbed", border - 1)));
}

TEST_CASE("the norms inside of attention have an epsilon of their own, which small inputs show", "[latent]") {
  const char* name = GENERATE(from_range(std::begin(latent_cases), std::end(latent_cases)));
  CAPTURE(name);
  const Checkpoint checkpoint(golden_folder(name));
  const Tensor<2> x = 1e-3f * hidden_states(20, width(checkpoint), 27);
  CHECK(relative_difference(run("absorbed", checkpoint, x), LatentOracle<double>(checkpoint, 1).expanded(x)) < f32_tolerance);
}

TEST_CASE("what each form costs, for DeepSeek-V3 at 1024 tokens of context", "[latent]") {
  const LatentSizes v3{.width = 7168, .heads = 128, .rank = 512, .rope_width = 64, .plain_width = 128,
                       .value_width = 128, .query_rank = 1536};
  const Cost naive = naive_cost(v3, 1, 1024), decompressed = decompressed_cost(v3, 1, 1024),
             absorbed = absorbed_cost(v3, 1, 1024);
  CHECK(naive.attention == 2.0 * 1024 * 128 * (192 + 128));
  CHECK(std::round(naive.attention / 1e6) == 84);
  CHECK(std::round(naive.flop() / 1e6) == 117);  // with the expansion of the one new token
  CHECK(std::round(decompressed.flop() / 1e6) == 34444);
  CHECK(std::round(absorbed.flop() / 1e6) == 319);
  CHECK(std::round(naive.cache_values * 2 / 1e5) == 839);     // 83.9 MB in bf16
  CHECK(std::round(absorbed.cache_values * 2 / 1e4) == 118);  // 1.18 MB
  CHECK(naive.intensity(2) == 1.0);
  CHECK(absorbed.intensity(2) == Approx(241.8).epsilon(1e-3));
  LatentSizes lite = v3;
  lite.heads = 16;
  CHECK(absorbed_cost(lite, 1, 1024).intensity(2) == Approx(30.2).epsilon(1e-2));
}

TEST_CASE("expanding pays for prompts, absorbing for steps", "[latent]") {
  const LatentSizes v3{.width = 7168, .heads = 128, .rank = 512, .rope_width = 64, .plain_width = 128,
                       .value_width = 128, .query_rank = 1536};
  CHECK(visible_pairs(3, 5) == 3 + 4 + 5);
  const index_t S = GENERATE(2, 5, 100, 4096, 131072);
  CAPTURE(S);
  CHECK(expanding_is_cheaper(v3, S, S));  // a first prompt
  CHECK_FALSE(expanding_is_cheaper(v3, 1, S));
  const index_t T = GENERATE(1, 2, 60, 160, 171, 190);
  CAPTURE(T);
  if (T <= S) {
    const double pairs = visible_pairs(T, S);
    CHECK(expanding_is_cheaper(v3, T, S) ==
          (static_cast<double>((S - T) * 512 * (128 + 128)) < pairs * (2 * 512 + 64 - 192 - 128)));
  }
  CHECK_FALSE(expanding_is_cheaper(v3, 170, 131072));
  CHECK(expanding_is_cheaper(v3, 171, 131072));
}
