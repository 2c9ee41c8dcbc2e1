/// The stages of chapter 6: whole models as kernels, next to the stages of layers and next to Hugging Face transformers.
/// What all other stages are put through in stages_agree_test.cpp and golden_test.cpp, on fewer inputs.
#include "chapters/06_cuda_kernels/model/device_model.hpp"
#include "chapters/models/model_tensors.hpp"
#include "common/files/error.hpp"
#include "common/files/npy.hpp"
#include "common/model/generate.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/decoders.hpp"
#include "tests/support/equality.hpp"
#include "tests/support/random.hpp"
#include "tests/support/wide_latents.hpp"

using namespace kv;
using namespace kv::test;

namespace {

const Stage& reference() { return find_stage("uncached"); }

/// The stage's own promise next to `uncached`.
Comparison as_promised(const Stage& stage, const Tensor<2>& found, const Tensor<2>& expected) {
  REQUIRE(stage.equality.tolerance > 0.0);
  return close(found, expected, stage.equality.tolerance, stage.equality.reason);
}

/// Small models of both kinds and both formats, odd widths, and goldens of every kind of mixture and of MLA.
void on_some_models(const std::function<void(const Checkpoint&)>& check) {
  const std::vector<std::pair<const char*, SmallModel>> small{
      {"llama f32, odd widths", {.width = 41, .feed_forward_width = 57}},
      {"llama bf16", {.query_heads = 4, .head_width = 32, .type = DType::bf16, .seed = 2}},
      {"qwen3 bf16, multi-query, tied", {.qwen3 = true, .query_heads = 5, .key_value_heads = 1, .type = DType::bf16, .tied = true, .seed = 3}}};
  for (const auto& [name, model] : small) {
    INFO("model: " << name);
    const SmallCheckpoint files(model);
    check(files.open());
  }
  for (const char* name : {"mixtral", "deepseek-v2-group", "deepseek-v3-moe", "deepseek-v3-yarn"}) {
    INFO("model: golden " << name);
    check(Checkpoint(golden(name)));
  }
}

/// Those that promise something.
std::vector<Stage> whole_stages(const Checkpoint& checkpoint) {
  std::vector<Stage> stages = test::whole_stages(family(checkpoint.config()));
  std::erase_if(stages, [](const Stage& stage) { return stage.equality.lossy; });
  return stages;
}
index_t vocabulary(const Checkpoint& checkpoint) { return model_sizes(checkpoint.config()).vocabulary; }

/// Of so many tokens, those that the stage need not be fed again.
index_t remembered(const Stage& stage, index_t tokens) { return stage.name == "cuda-uncached" ? 0 : tokens; }

std::filesystem::path shipped(const char* name) { return std::filesystem::path(KV_DATA) / name; }

}  // namespace

TEST_CASE("the stages are in the table, with a tolerance and its reason", "[cuda-stages]") {
  std::vector<std::string_view> names;
  for (const Stage& stage : test::whole_stages(Family::mla)) names.push_back(stage.name);
  CHECK(names == std::vector<std::string_view>{"cuda-naive", "cuda-bf16", "cuda-absorbed", "cuda-uncached"});
  CHECK(test::whole_stages(Family::gqa).size() == 3);
  CHECK(find_stage("6").name == "cuda-naive");
  for (const std::string_view name : names) CHECK(find_stage(name).equality.tolerance <= 1e-4);
  CHECK(find_stage("cuda-bf16").equality.lossy);
}

TEST_CASE("logits of the CUDA stages agree with Hugging Face transformers, as far as a window reaches", "[cuda-stages][golden]") {
  const std::string name = GENERATE(from_range(golden_names()));
  CAPTURE(name);
  const Checkpoint checkpoint(golden(name));
  const std::vector<std::int32_t> ids = read_npy_i32(golden(name) / "tokens.npy");
  const index_t count = std::min(ids.size(), shortest_window(model_tensors(checkpoint)));
  const std::vector<Token> tokens(ids.begin(), ids.begin() + count);
  const Tensor<2> expected = rows(read_npy_f32(golden(name) / "logits.npy"), 0, count);
  for (const Stage& stage : whole_stages(checkpoint)) {
    CAPTURE(stage.name);
    Decoder decoder = make_decoder(checkpoint, stage, {.sequences = 1, .capacity = tokens.size()});
    const Tensor<2> found = logits_in_chunks(decoder, 0, tokens, {tokens.size() - 4, 1, 3});
    CHECK(close(found, expected, 1e-4, "transformers sums in another order"));
    CHECK(as_promised(stage, found, whole_logits(checkpoint, reference(), tokens)));
  }
}

TEST_CASE("the CUDA stages refuse to go on where a window ends", "[cuda-stages]") {
  const Checkpoint checkpoint(golden("qwen2-window"));  // the last two layers' alone
  const auto decoder = [&](index_t capacity) {
    return make_decoder(checkpoint, find_stage("cuda-naive"), {.sequences = 1, .capacity = capacity});
  };
  CHECK_NOTHROW(decoder(11));
  CHECK(holds(error_of([&] { decoder(12); }), "sliding_window of 11"));
}

TEST_CASE("the CUDA stages, any chunking", "[cuda-stages]") {
  on_some_models([](const Checkpoint& checkpoint) {
    const index_t count = 21;
    const std::vector<Token> tokens = random_tokens(count, vocabulary(checkpoint), 1);
    const Tensor<2> expected = whole_logits(checkpoint, reference(), tokens);
    for (const Stage& stage : whole_stages(checkpoint))
      for (const auto& chunks : {std::vector<index_t>{21}, std::vector<index_t>(count, 1), random_chunks(count, 2), {9, 12}}) {
        CAPTURE(stage.name, chunks);
        Decoder decoder = make_decoder(checkpoint, stage, {.sequences = 1, .capacity = count});
        CHECK(as_promised(stage, logits_in_chunks(decoder, 0, tokens, chunks), expected));
      }
  });
}

TEST_CASE("the CUDA stages, a batch of ragged lengths against solo runs", "[cuda-stages]") {
  on_some_models([](const Checkpoint& checkpoint) {
    const index_t lengths[] = {5, 15, 1}, V = vocabulary(checkpoint);
    std::vector<std::vector<Token>> tokens;
    std::vector<Tensor<2>> expected;
    for (index_t b = 0; b < 3; ++b) {
      tokens.push_back(random_tokens(lengths[b] + 3, V, static_cast<unsigned>(40 + b)));
      expected.push_back(whole_logits(checkpoint, reference(), tokens[b]));
    }
    for (const Stage& stage : whole_stages(checkpoint)) {
      CAPTURE(stage.name);
      Decoder decoder = make_decoder(checkpoint, stage, {.sequences = 3, .capacity = 20});
      const Tensor<2> prefill = decoder.logits({{2, part(tokens[2], 0, 1)}, {0, part(tokens[0], 0, 5)}, {1, part(tokens[1], 0, 15)}});
      CHECK(as_promised(stage, rows(prefill, 0, 1), rows(expected[2], 0, 1)));
      CHECK(as_promised(stage, rows(prefill, 1, 5), rows(expected[0], 0, 5)));
      CHECK(as_promised(stage, rows(prefill, 6, 15), rows(expected[1], 0, 15)));
      for (index_t t = 0; t < 2; ++t) {  // steps together, one of them without sequence 0
        const Tensor<2> step = decoder.last_logits({{1, {tokens[1][15 + t]}}, {2, {tokens[2][1 + t]}}});
        CHECK(as_promised(stage, rows(step, 0, 1), rows(expected[1], 15 + t, 1)));
        CHECK(as_promised(stage, rows(step, 1, 1), rows(expected[2], 1 + t, 1)));
      }
      const Tensor<2> mixed = decoder.last_logits({{0, part(tokens[0], 5, 3)}, {1, {tokens[1][17]}}});  // 3 tokens and 1
      CHECK(as_promised(stage, rows(mixed, 0, 1), rows(expected[0], 7, 1)));
      CHECK(as_promised(stage, rows(mixed, 1, 1), rows(expected[1], 17, 1)));
    }
  });
}

TEST_CASE("the CUDA stages, truncate and go on as if fresh", "[cuda-stages]") {
  on_some_models([](const Checkpoint& checkpoint) {
    const index_t V = vocabulary(checkpoint);
    const std::vector<Token> tokens = random_tokens(12, V, 7), others = random_tokens(9, V, 8);
    const Tensor<2> expected = whole_logits(checkpoint, reference(), tokens);
    for (const Stage& stage : whole_stages(checkpoint))
      for (const index_t kept : {index_t{0}, index_t{1}, index_t{6}}) {
        CAPTURE(stage.name, kept);
        Decoder decoder = make_decoder(checkpoint, stage, {.sequences = 1, .capacity = 16});
        if (kept > 0) decoder.logits(0, part(tokens, 0, kept));
        decoder.logits(0, others);
        decoder.truncate(0, kept);
        CHECK(decoder.remembered(0) == remembered(stage, kept));
        CHECK(as_promised(stage, decoder.logits(0, part(tokens, kept, 12 - kept)), rows(expected, kept, 12 - kept)));
        CHECK_THROWS_AS(decoder.truncate(0, 13), std::out_of_range);
      }
  });
}

TEST_CASE("the CUDA stages, exactly the capacity and one more", "[cuda-stages]") {
  on_some_models([](const Checkpoint& checkpoint) {
    const index_t V = vocabulary(checkpoint), C = 9;
    const std::vector<Token> tokens = random_tokens(C, V, 9), short_one = random_tokens(4, V, 10);
    const Tensor<2> expected = whole_logits(checkpoint, reference(), tokens);
    const Tensor<2> expected_short = whole_logits(checkpoint, reference(), short_one);
    for (const Stage& stage : whole_stages(checkpoint)) {
      CAPTURE(stage.name);
      Decoder decoder = make_decoder(checkpoint, stage, {.sequences = 2, .capacity = C});
      decoder.logits({{0, part(short_one, 0, 2)}, {1, part(tokens, 0, 7)}});
      const std::size_t bytes = decoder.state_bytes().allocated;
      const std::string message = error_of([&] { decoder.logits({{0, part(short_one, 2, 1)}, {1, tokens}}); });
      CHECK(holds(message, "sequence 1 would have 16 tokens; the capacity is 9"));
      CHECK(decoder.tokens(0) == part(short_one, 0, 2));
      CHECK(decoder.remembered(1) == remembered(stage, 7));
      CHECK(decoder.state_bytes().allocated == bytes);
      CHECK(holds(error_of([&] { decoder.logits(0, {static_cast<Token>(V)}); }), "outside the vocabulary"));
      const Tensor<2> next = decoder.logits({{0, part(short_one, 2, 1)}, {1, part(tokens, 7, 2)}});
      CHECK(as_promised(stage, rows(next, 0, 1), rows(expected_short, 2, 1)));
      CHECK(as_promised(stage, rows(next, 1, 2), rows(expected, 7, 2)));
      CHECK_THROWS_AS(decoder.logits(1, {tokens[0]}), Error);  // full
      CHECK(as_promised(stage, decoder.logits(0, {short_one[3]}), rows(expected_short, 3, 1)));
      CHECK(decoder.logits(std::vector<NewTokens>{}).shape(0) == 0);
    }
  });
}

TEST_CASE("a transformer without a decoder around it refuses what does not fit, and forgets nothing", "[cuda-stages]") {
  const Checkpoint checkpoint(golden("deepseek-v3-moe"));
  for (const Stage& stage : whole_stages(checkpoint)) {
    const auto transformer = std::get<MakeTransformer>(stage.make)(checkpoint, {.sequences = 1, .capacity = 4}, {});
    const std::vector<Token> tokens{1, 2, 3};
    const std::vector<index_t> wanted{2};
    transformer->logits(tokens, {{0, 0, 3}}, wanted);
    const std::vector<Token> more(remembered(stage, 3) == 0 ? 5 : 3, 1);
    const std::string message = error_of([&] { transformer->logits(more, {{0, 0, more.size()}}, wanted); });
    CHECK(holds(message, std::to_string(remembered(stage, 3)) + " of at most 4 tokens; " + std::to_string(more.size()) + " more do not fit"));
    CHECK(transformer->length(0) == remembered(stage, 3));
    transformer->truncate(0, 9);
    CHECK(transformer->length(0) == remembered(stage, 3));
  }
}

TEST_CASE("logits come in the order they are asked for, and more than the head makes at a time", "[cuda-stages]") {
  const SmallCheckpoint files;
  const std::vector<Token> tokens = random_tokens(70, 61, 12);
  const Tensor<2> expected = whole_logits(files.open(), reference(), tokens);
  const auto transformer = std::get<MakeTransformer>(find_stage("cuda-naive").make)(files.open(), {.sequences = 1, .capacity = 80}, {});
  const std::vector<index_t> wanted{69, 3, 3, 68, 69};
  const Tensor<2> found = transformer->logits(tokens, {{0, 0, 70}}, wanted);
  REQUIRE(found.shape(0) == 5);
  for (index_t i = 0; i < 5; ++i) {
    CAPTURE(i);
    CHECK(close(rows(found, i, 1), rows(expected, wanted[i], 1), 1e-4, "another order of sums"));
  }
  CHECK(close(whole_logits(files.open(), find_stage("cuda-naive"), tokens), expected, 1e-4, "another order of sums"));
}

TEST_CASE("exact: a replayed graph and plain launches", "[cuda-stages]") {
  for (const char* name : {"deepseek-v3-moe", "llama-bf16"}) {
    const Checkpoint checkpoint(golden(name));
    for (const Stage& stage : whole_stages(checkpoint)) {
      CAPTURE(name, stage.name);
      const auto make = [&] { return std::get<MakeTransformer>(stage.make)(checkpoint, {.sequences = 2, .capacity = 12}, {}); };
      const auto replayed = make(), plain = make();
      const std::vector<index_t> in_order{0, 1}, turned{1, 0};  // only a step whose rows are wanted in order is a graph
      for (index_t t = 0; t < 8; ++t) {
        const std::vector<Token> tokens = random_tokens(2, vocabulary(checkpoint), static_cast<unsigned>(60 + t));
        const Batch batch{{1, 0, 1}, {0, 1, 1}};
        const Tensor<2> a = replayed->logits(tokens, batch, in_order), b = plain->logits(tokens, batch, turned);
        CHECK(exact(rows(a, 0, 1), rows(b, 1, 1)));
        CHECK(exact(rows(a, 1, 1), rows(b, 0, 1)));
        if (t == 4) replayed->truncate(0, 2), plain->truncate(0, 2);  // the same graph at an earlier position
      }
    }
  }
}

TEST_CASE("greedy text is that of the CPU stages on both shipped models", "[cuda-stages]") {
  for (const char* name : {"tiny-gqa", "tiny-mla"}) {
    const Checkpoint checkpoint(shipped(name));
    const std::vector<Token> prompt = random_tokens(11, vocabulary(checkpoint), 13);
    const GenerateOptions options{.max_new_tokens = 16, .sampling = {}, .stop = {}};
    const Limits limits{.sequences = 1, .capacity = 40};
    Decoder expected = make_decoder(checkpoint, find_stage("preallocated"), limits);
    const std::vector<Token> text = generate(expected, {{0, prompt}}, options).tokens[0];
    for (const Stage& stage : whole_stages(checkpoint)) {
      CAPTURE(name, stage.name);
      Decoder decoder = make_decoder(checkpoint, stage, limits);
      CHECK(generate(decoder, {{0, prompt}}, options).tokens[0] == text);
    }
  }
}

TEST_CASE("the most likely tokens, chosen on the device: those of the logits, of prompts and of steps", "[cuda-stages]") {
  const Checkpoint checkpoint(shipped("tiny-mla"));
  const std::vector<Token> tokens = random_tokens(90, vocabulary(checkpoint), 19);
  for (const Stage& stage : whole_stages(checkpoint)) {
    CAPTURE(stage.name);
    const Limits limits{.sequences = 2, .capacity = 20};
    Decoder device = make_decoder(checkpoint, stage, limits), host = make_decoder(checkpoint, stage, limits);
    for (const std::vector<NewTokens>& batch : {std::vector<NewTokens>{{1, part(tokens, 0, 12)}, {0, part(tokens, 70, 3)}},
                                                {{0, {tokens[80]}}, {1, {tokens[81]}}}, {{1, {tokens[82]}}}}) {
      const Tensor<2> logits = host.last_logits(batch);
      std::vector<Token> expected;
      for (index_t b = 0; b < batch.size(); ++b) expected.push_back(most_likely(row(logits, b)));
      CHECK(device.most_likely(batch) == expected);
      CHECK(device.remembered(0) == host.remembered(0));
    }
  }
}

TEST_CASE("logits that are no numbers choose nobody, and say so", "[cuda-stages]") {
  WideLatents model(1, 0);
  model.tensors.final_norm(3) = std::numeric_limits<float>::quiet_NaN();
  const auto device = cuda::make_naive_model(model.tensors, {.sequences = 1, .capacity = 8});
  const std::vector<cuda::NewRow> rows{{1, 0, 0}, {2, 0, 1}}, step{{1, 0, 2}};
  CHECK(holds(error_of([&] { device->most_likely(rows, std::vector<index_t>{1}); }), "not all numbers"));
  CHECK(holds(error_of([&] { device->next_tokens(step); }), "not all numbers"));
}

TEST_CASE("state bytes: heads in full, or one latent row", "[cuda-stages]") {
  const Checkpoint checkpoint(shipped("tiny-mla"));
  const auto bytes = [&](const char* stage) { return make_decoder(checkpoint, find_stage(stage), {.sequences = 2, .capacity = 30}).state_bytes().allocated; };
  CHECK(bytes("cuda-naive") == 2 * 30 * 5 * 6 * (48 + 32) * 4);
  CHECK(bytes("cuda-absorbed") == 2 * 30 * 5 * (64 + 16) * 4);
  CHECK(bytes("cuda-bf16") == bytes("cuda-naive") / 2);
  CHECK(bytes("cuda-uncached") == 0);
  CHECK(bytes("cuda-naive") == bytes("preallocated"));
  CHECK(bytes("cuda-absorbed") == bytes("absorbed"));
}

TEST_CASE("a text longer than what is fed at a time", "[cuda-stages]") {
  const SmallCheckpoint files({.query_heads = 4, .head_width = 32, .context = 600, .type = DType::bf16});
  const std::vector<Token> tokens = random_tokens(515, 61, 16);  // of which 512 go together, without a cache all
  const Tensor<2> expected = whole_logits(files.open(), reference(), tokens);
  for (const Stage& stage : whole_stages(files.open())) {
    CAPTURE(stage.name);
    Decoder decoder = make_decoder(files.open(), stage, {.sequences = 1, .capacity = 516});
    CHECK(as_promised(stage, decoder.last_logits({{0, part(tokens, 0, 514)}}), rows(expected, 513, 1)));
    CHECK(as_promised(stage, decoder.logits(0, {tokens[514]}), rows(expected, 514, 1)));
  }
}

TEST_CASE("a long prompt in two pieces, beside a single token and a short one", "[cuda-stages]") {
  const Checkpoint checkpoint(shipped("tiny-mla"));
  const std::vector<Token> tokens = random_tokens(96, vocabulary(checkpoint), 17);
  const std::vector<std::vector<Token>> texts{part(tokens, 0, 80), part(tokens, 80, 9), part(tokens, 89, 7)};
  std::vector<Tensor<2>> expected;
  for (const auto& text : texts) expected.push_back(whole_logits(checkpoint, reference(), text));
  for (const Stage& stage : whole_stages(checkpoint)) {
    CAPTURE(stage.name);
    Decoder decoder = make_decoder(checkpoint, stage, {.sequences = 3, .capacity = 81});
    decoder.last_logits({{1, part(texts[1], 0, 8)}, {0, part(texts[0], 0, 10)}});
    const Tensor<2> found = decoder.logits({{1, {texts[1][8]}}, {0, part(texts[0], 10, 70)}, {2, texts[2]}});
    CHECK(as_promised(stage, rows(found, 0, 1), rows(expected[1], 8, 1)));
    CHECK(as_promised(stage, rows(found, 1, 70), rows(expected[0], 10, 70)));
    CHECK(as_promised(stage, rows(found, 71, 7), expected[2]));
  }
}

TEST_CASE("rows in bf16: near to rows in f32 and not the same; of heads, near to those that the CPU rounds", "[cuda-stages]") {
  on_some_models([](const Checkpoint& checkpoint) {
    if (std::ranges::any_of(model_tensors(checkpoint).layers,
                            [](const LayerTensors& layer) { return std::holds_alternative<MixtureTensors>(layer.feed_forward); }))
      return;  // rounding may choose other experts
    const std::vector<Token> tokens = random_tokens(21, vocabulary(checkpoint), 18);
    const auto logits = [&](const char* stage) {
      Decoder decoder = make_decoder(checkpoint, find_stage(stage), {.sequences = 1, .capacity = 21});
      return logits_in_chunks(decoder, 0, tokens, {15, 1, 5});
    };
    const Tensor<2> found = logits("cuda-bf16"), wide = logits("cuda-naive");
    CHECK(close(found, wide, 2e-2, "stored rows are rounded"));
    CHECK_FALSE(close(found, wide, 1e-4, "rounded"));
    if (family(checkpoint.config()) == Family::gqa) CHECK(close(found, logits("bf16"), 2e-3, "a few sums round to the other side"));
  });
  const WideLatents model(2, 0, 64, 128);
  const Limits limits{.sequences = 1, .capacity = 12};
  const auto rounded = cuda::make_bf16_model(model.tensors, limits), wide = cuda::make_naive_model(model.tensors, limits);
  const std::vector<Token> tokens = random_tokens(12, model.V, 20);
  for (const index_t first : {index_t{0}, index_t{10}, index_t{11}}) {  // a prompt, and two steps
    std::vector<cuda::NewRow> rows;
    for (index_t t = first; t < (first == 0 ? 10 : first + 1); ++t) rows.push_back({tokens[t], 0, t});
    const std::vector<index_t> last{rows.size() - 1};
    const Tensor<2> found = rounded->logits(rows, last), expected = wide->logits(rows, last);
    CHECK(close(found, expected, 2e-2, "stored rows are rounded"));
    CHECK_FALSE(close(found, expected, 1e-4, "rounded"));
  }
}

TEST_CASE("an uncached model has nothing to go on from, and says so", "[cuda-stages]") {
  const WideLatents model(1, 0);
  const auto uncached = cuda::make_uncached_model(model.tensors, {.sequences = 1, .capacity = 8});
  CHECK_FALSE(uncached->remembers());
  CHECK(uncached->cache_bytes() == 0);
  CHECK_THROWS_AS(uncached->next_tokens(std::vector<cuda::NewRow>{{1, 0, 0}}), std::invalid_argument);
}

TEST_CASE("latents in bf16 pages, read by the ladder's best rung, against latents in f32", "[cuda-stages]") {
  const auto [plain_width, value_width] = GENERATE(std::pair<index_t, index_t>(8, 6), std::pair<index_t, index_t>(64, 128));
  const WideLatents model(2, 0, plain_width, value_width);  // no mixture: rounding may choose other experts
  const Limits limits{.sequences = 2, .capacity = 80};
  const auto paged = cuda::make_ladder_model(model.tensors, limits), plain = cuda::make_absorbed_model(model.tensors, limits);
  std::vector<cuda::NewRow> prompts;  // over the end of a page, and up to two tokens before it
  const std::vector<Token> tokens = random_tokens(140, model.V, 14);
  for (index_t t = 0; t < 68; ++t) prompts.push_back({tokens[t], 1, t});
  for (index_t t = 0; t < 62; ++t) prompts.push_back({tokens[72 + t], 0, t});
  const std::vector<index_t> wanted{0, 63, 67, 68, 129}, both{0, 1};
  const char* why = "latents, queries and outputs of attention are rounded to bf16";
  CHECK(close(paged->logits(prompts, wanted), plain->logits(prompts, wanted), 2e-2, why));
  const auto best = [](const Tensor<2>& logits) { return std::vector<Token>{most_likely(row(logits, 0)), most_likely(row(logits, 1))}; };
  for (index_t t = 0; t < 4; ++t) {  // the second sequence begins a page at t = 2
    const std::vector<cuda::NewRow> step{{tokens[68 + t], 1, 68 + t}, {tokens[134 + t], 0, 62 + t}};
    const Tensor<2> expected = plain->logits(step, both), found = paged->logits(step, both);
    CHECK(close(found, expected, 2e-2, why));
    CHECK(plain->next_tokens(step) == best(expected));
    CHECK(paged->next_tokens(step) == best(found));
  }
  CHECK(paged->cache_bytes() == 2 * 2 * 128 * 576 * 2);  // layers, sequences, tokens in whole pages, numbers, bytes
  CHECK_THROWS_AS(plain->next_tokens(std::vector<cuda::NewRow>{{1, 0, 6}, {1, 0, 7}}), std::invalid_argument);
}

TEST_CASE("exact: next tokens fed back on the device, over the end of a page, and one step at a time", "[cuda-stages]") {
  const WideLatents model(1, 1);
  const Limits limits{.sequences = 2, .capacity = 80};
  const auto make = GENERATE(cuda::make_ladder_model, cuda::make_absorbed_model);
  const auto at_once = make(model.tensors, limits), by_step = make(model.tensors, limits);
  std::vector<cuda::NewRow> prompts;
  const std::vector<Token> tokens = random_tokens(131, model.V, 15);
  for (index_t t = 0; t < 68; ++t) prompts.push_back({tokens[t], 1, t});
  for (index_t t = 0; t < 61; ++t) prompts.push_back({tokens[68 + t], 0, t});
  at_once->logits(prompts, {}), by_step->logits(prompts, {});
  const std::vector<cuda::NewRow> begin{{tokens[129], 0, 61}, {tokens[130], 1, 68}};  // sequence 0 begins a page in the fourth step
  const index_t steps = 6;
  std::vector<Token> expected;
  std::vector<cuda::NewRow> rows = begin;
  for (index_t step = 0; step < steps; ++step) {
    const Tensor<2> logits = by_step->logits(rows, std::vector<index_t>{0, 1});
    for (index_t n = 0; n < 2; ++n) {
      expected.push_back(most_likely(row(logits, n)));
      rows[n].token = expected.back(), ++rows[n].position;
    }
  }
  CHECK(at_once->next_tokens(begin, steps) == expected);
  const std::vector<index_t> both{0, 1};
  CHECK(exact(at_once->logits(rows, both), by_step->logits(rows, both)));
  CHECK_THROWS_AS(at_once->next_tokens(begin, 13), std::invalid_argument);  // sequence 1 has room for 12
  CHECK(at_once->next_tokens(begin, 12).size() == 24);
}

TEST_CASE("parts of a CUDA stage cannot be exchanged", "[cuda-stages]") {
  const SmallCheckpoint files;
  const auto error = error_of([&] { make_decoder(files.open(), find_stage("cuda-naive"), {.sequences = 1, .capacity = 4}, feed_forward); });
  CHECK(holds(error, "'cuda-naive' makes the whole model"));
  CHECK(holds(error_of([&] { make_decoder(files.open(), find_stage("cuda-absorbed"), {.sequences = 1, .capacity = 4}); }), "does not run on"));
}
