/// Models that are cut over ranks: equal to `uncached` where sums stay whole, bytes that are sent and kept as the formulas say,
/// and what happens when a rank fails. What all stages must do is in stages_agree_test.cpp, with two ranks.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <thread>

#include "chapters/05_mixture_of_experts/observed_router.hpp"
#include "chapters/10_tensor_parallel/rank_group.hpp"
#include "chapters/10_tensor_parallel/slices.hpp"
#include "chapters/10_tensor_parallel/thread_communicator.hpp"
#include "chapters/models/layer_parts.hpp"
#include "common/tensor/parallel.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/decoders.hpp"
#include "tests/support/equality.hpp"
#include "tests/support/random.hpp"

using namespace kv;
using namespace kv::test;

namespace {

Stage on(std::string_view name, index_t ranks) {
  Stage stage = find_stage(name);
  stage.options.set("ranks", std::to_string(ranks));
  return stage;
}

HeadSizes heads_of(const Checkpoint& checkpoint) { return head_sizes(attention_tensors(checkpoint, 0)); }
std::filesystem::path shipped(const char* name) { return std::filesystem::path(KV_DATA) / name; }

/// Everything there is to cut: goldens, the shipped models, and small ones with heads for 8 ranks.
void on_every_model(const std::function<void(const Checkpoint&)>& check) {
  for (const std::string& name : golden_names()) {
    INFO("golden " << name);
    check(Checkpoint(golden(name)));
  }
  for (const char* name : {"tiny-gqa", "tiny-mla"}) {
    INFO(name);
    check(Checkpoint(shipped(name)));
  }
  for (const auto& [heads, groups] : std::vector<std::pair<index_t, index_t>>{{9, 3}, {8, 1}, {8, 8}, {10, 5}, {16, 2}}) {
    const SmallCheckpoint files({.query_heads = heads, .key_value_heads = groups, .type = DType::bf16, .seed = 7});
    INFO("small, heads " << heads << ", groups " << groups);
    check(files.open());
  }
}

index_t sum(const std::vector<index_t>& numbers) { return std::accumulate(numbers.begin(), numbers.end(), index_t{0}); }

std::uint64_t sent_by_all(const std::vector<RankReport>& reports, std::uint64_t Traffic::*kind) {
  std::uint64_t bytes = 0;
  for (const RankReport& report : reports) bytes += report.sent.*kind;
  return bytes;
}

/// One model on ranks, and the bytes that its ranks send while `count` tokens go through in `chunks`.
std::vector<RankReport> reports_after(Cut cut, const Checkpoint& checkpoint, index_t ranks, const std::vector<index_t>& chunks) {
  const index_t count = sum(chunks);
  const std::vector<Token> tokens = random_tokens(count, model_sizes(checkpoint.config()).vocabulary, 3);
  StageOptions options = find_stage("parallel").options;
  options.set("ranks", std::to_string(ranks));
  auto model = make_on_ranks(cut, checkpoint, {.sequences = 1, .capacity = count}, options);
  index_t first = 0;
  for (const index_t chunk : chunks) {
    std::vector<index_t> wanted{chunk - 1};
    model->logits(std::span(tokens).subspan(first, chunk), {{0, 0, chunk, first}}, wanted);
    first += chunk;
  }
  return rank_reports(*model);
}

}  // namespace

TEST_CASE("parts are nearly equal, larger ones first, with borders where a format can be cut", "[parallel]") {
  CHECK(counts(split(6, 4)) == std::vector<index_t>{2, 2, 1, 1});
  CHECK(counts(split(6, 8)) == std::vector<index_t>{1, 1, 1, 1, 1, 1, 0, 0});
  CHECK(counts(split(300, 2, 128)) == std::vector<index_t>{256, 44});
  CHECK(counts(split(40, 3, 32)) == std::vector<index_t>{32, 8, 0});
  for (const index_t size : {0, 1, 31, 97, 128, 1000})
    for (const index_t ranks : {1, 2, 3, 8})
      for (const index_t unit : {1, 32, 128}) {
        index_t next = 0;
        for (const Slice& slice : split(size, ranks, unit)) {
          CHECK(slice.first == next);
          CHECK((slice.first % unit == 0 || slice.count == 0));
          next = slice.end();
        }
        CHECK(next == size);
      }
}

TEST_CASE("a group stays together while there are as many groups as ranks, and is shared when there are fewer", "[parallel]") {
  const auto of = [](index_t H, index_t G, index_t p) { return split_heads({H, G, 8, 8}, p); };
  CHECK(counts(of(6, 6, 4).queries) == std::vector<index_t>{2, 2, 1, 1});
  CHECK(counts(of(6, 2, 2).queries) == std::vector<index_t>{3, 3});
  CHECK(counts(of(6, 2, 4).queries) == std::vector<index_t>{2, 1, 2, 1});
  CHECK(of(6, 2, 4).groups == std::vector<Slice>{{0, 1}, {0, 1}, {1, 1}, {1, 1}});
  CHECK(counts(of(10, 5, 3).groups) == std::vector<index_t>{2, 2, 1});
  CHECK(holds(error_of([&] { of(6, 2, 7); }), "--ranks 7: the model has 6 heads"));
  for (const auto& [H, G] : std::vector<std::pair<index_t, index_t>>{{6, 2}, {8, 1}, {12, 4}, {32, 8}, {5, 5}})
    for (index_t p = 1; p <= H; ++p) {
      const HeadSlices slices = of(H, G, p);
      index_t next = 0;
      for (index_t r = 0; r < p; ++r) {
        CAPTURE(H, G, p, r);
        CHECK(slices.queries[r].first == next);
        CHECK(slices.queries[r].count > 0);
        CHECK(slices.queries[r].count % slices.groups[r].count == 0);  // heads share evenly on every rank
        for (index_t h = slices.queries[r].first; h < slices.queries[r].end(); ++h) {
          const index_t local = (h - slices.queries[r].first) / (slices.queries[r].count / slices.groups[r].count);
          CHECK(slices.groups[r].first + local == h / (H / G));  // and look at the group they look at on one rank
        }
        next = slices.queries[r].end();
      }
      CHECK(next == H);
    }
}

TEST_CASE("parallel and parallel-experts repeat uncached bit for bit on any number of ranks", "[parallel]") {
  const index_t ranks = GENERATE(1, 2, 3, 4, 8);
  index_t cut = 0;
  on_every_model([&](const Checkpoint& checkpoint) {
    const std::vector<Token> tokens = random_tokens(21, model_sizes(checkpoint.config()).vocabulary, 1);
    const Tensor<2> expected = whole_logits(checkpoint, find_stage("uncached"), tokens);
    for (const char* name : {"parallel", "parallel-experts"}) {
      CAPTURE(name, ranks);
      const Stage stage = on(name, ranks);
      if (stage.name == "parallel" && ranks > heads_of(checkpoint).query_heads) {
        CHECK_THROWS_AS(whole_logits(checkpoint, stage, tokens), UsageError);
        continue;
      }
      ++cut;
      Decoder decoder = make_decoder(checkpoint, stage, {.sequences = 3, .capacity = 21});
      CHECK(exact(logits_in_chunks(decoder, 1, tokens, {13, 1, 1, 6}), expected));
      // another batch: of two sequences, the second one already begun
      decoder.truncate(1, 5);
      const Tensor<2> both = decoder.logits({{1, part(tokens, 5, 4)}, {2, part(tokens, 0, 9)}});
      CHECK(exact(rows(both, 0, 4), rows(expected, 5, 4)));
      CHECK(exact(rows(both, 4, 9), rows(expected, 0, 9)));
      CHECK(exact(decoder.last_logits({{2, part(tokens, 9, 1)}, {0, part(tokens, 0, 3)}, {1, part(tokens, 9, 2)}}),
                  [&] {
                    Tensor<2> three = empty<2>({3, expected.shape(1)});
                    put_rows(three, 0, rows(expected, 9, 1));
                    put_rows(three, 1, rows(expected, 2, 1));
                    put_rows(three, 2, rows(expected, 10, 1));
                    return three;
                  }()));
      decoder.share(1, 0, 8);
      CHECK(exact(decoder.logits(0, part(tokens, 8, 2)), rows(expected, 8, 2)));
    }
  });
  CHECK(cut >= 45);
}

TEST_CASE("parallel-reduce is within its tolerance, repeats itself, and changes with the number of ranks", "[parallel]") {
  index_t changed = 0, compared = 0;
  double largest = 0.0;
  on_every_model([&](const Checkpoint& checkpoint) {
    const std::vector<Token> tokens = random_tokens(21, model_sizes(checkpoint.config()).vocabulary, 2);
    const Tensor<2> expected = whole_logits(checkpoint, find_stage("uncached"), tokens);
    std::vector<Tensor<2>> found;
    for (const index_t ranks : {1, 2, 3, 4, 8}) {
      if (ranks > heads_of(checkpoint).query_heads) continue;
      const Stage stage = on("parallel-reduce", ranks);
      CAPTURE(ranks);
      found.push_back(whole_logits(checkpoint, stage, tokens));
      CHECK(close(found.back(), expected, stage.equality.tolerance, stage.equality.reason));
      CHECK(exact(whole_logits(checkpoint, stage, tokens), found.back()));
      double top = 0.0, off = 0.0;
      for (index_t i = 0; i < expected.size(); ++i) {
        top = std::max(top, std::abs(static_cast<double>(expected.data()[i])));
        off = std::max(off, std::abs(static_cast<double>(expected.data()[i]) - found.back().data()[i]));
      }
      largest = std::max(largest, off / top);
      if (found.size() > 1) changed += !exact(found.back(), found[found.size() - 2]).equal;
      compared += found.size() > 1;
    }
    if (family(checkpoint.config()) == Family::gqa) CHECK(exact(found[0], expected));  // one rank adds nothing up
  });
  INFO("largest difference, relative to the largest logit: " << largest);
  CHECK(largest > 1e-8);
  CHECK(changed == compared);  // every other number of ranks gives other bits
}

TEST_CASE("bytes sent are those of the formula", "[parallel]") {
  const index_t p = GENERATE(1, 2, 3, 4);
  on_every_model([&](const Checkpoint& checkpoint) {
    const HeadSizes heads = heads_of(checkpoint);
    if (p > heads.query_heads) return;
    CAPTURE(p);
    const ModelTensors tensors = model_tensors(checkpoint);
    const index_t M = model_sizes(checkpoint.config()).width, V = model_sizes(checkpoint.config()).vocabulary;
    index_t outputs = 0, sums = 0;  // numbers per token
    for (const LayerTensors& layer : tensors.layers) {
      outputs += heads.query_heads * heads.value_width + M;
      if (const auto* mixture = std::get_if<MixtureTensors>(&layer.feed_forward)) {
        outputs += mixture->rule.chosen * mixture->experts[0].gate.weight.rows + M;
        if (mixture->shared) outputs += mixture->shared->gate.weight.rows;
      } else {
        outputs += std::get<SwiGluTensors>(layer.feed_forward).gate.weight.rows + M;
      }
      sums += 2 * M;
    }
    const std::vector<index_t> chunks{9, 1, 1, 4};
    const index_t N = sum(chunks), logits = chunks.size() * V;  // one row is asked for in each step
    const auto by_outputs = reports_after(Cut::outputs, checkpoint, p, chunks);
    CHECK(sent_by_all(by_outputs, &Traffic::all_gather) == sizeof(float) * (p - 1) * (N * outputs + logits));
    CHECK(sent_by_all(by_outputs, &Traffic::all_reduce) == 0);
    CHECK(sent_by_all(by_outputs, &Traffic::all_to_all) == 0);
    const auto by_sums = reports_after(Cut::sums, checkpoint, p, chunks);
    CHECK(sent_by_all(by_sums, &Traffic::all_reduce) == sizeof(float) * 2 * (p - 1) * N * sums);
    CHECK(sent_by_all(by_sums, &Traffic::all_gather) == sizeof(float) * (p - 1) * logits);
  });
}

TEST_CASE("bytes of parallel-experts are those of the choices that lie on other ranks", "[parallel]") {
  const index_t p = GENERATE(1, 2, 3);
  for (const char* name : {"mixtral", "qwen2-moe", "deepseek-v3-moe", "deepseek-v2-group"}) {
    const Checkpoint checkpoint(golden(name));
    CAPTURE(name, p);
    const index_t M = model_sizes(checkpoint.config()).width, V = model_sizes(checkpoint.config()).vocabulary;
    const std::vector<Token> first = random_tokens(7, V, 4), second = random_tokens(5, V, 5);
    // whose choices, layer by layer: from a model on one rank whose routers are watched
    std::uint64_t expected = 0;
    index_t mixtures = 0;
    const auto watched = [&](const Checkpoint& from, index_t layer) -> std::shared_ptr<const FeedForward> {
      if (!std::holds_alternative<MixtureTensors>(feed_forward_tensors(from, layer))) return nullptr;
      MixtureParts parts = mixture_parts(from, layer);
      ++mixtures;
      parts.router = std::make_shared<ObservedRouter>(parts.router, [&, owner_of = split(parts.experts->count(), p)](const Routing& routing) {
        for (index_t n = 0; n < routing.size(); ++n)
          for (const Choice& choice : routing[n]) {
            index_t owner = 0;
            while (choice.expert >= owner_of[owner].end()) ++owner;
            const index_t sequence = n < first.size() ? 0 : 1;
            if (owner != sequence % p) expected += (2 * M + 1) * sizeof(float);
          }
      });
      return std::make_shared<Mixture>(std::move(parts));
    };
    Decoder whole = make_decoder(checkpoint, find_stage("preallocated"), {.sequences = 2, .capacity = 8}, watched);
    whole.logits({{0, first}, {1, second}});
    expected += p * (p - 1) * 8 * (2 * mixtures + 1);          // how much will come: there, back, and logits
    if (p > 1) expected += second.size() * V * sizeof(float);  // sequence 1 is not on rank 0
    StageOptions options = find_stage("parallel").options;
    options.set("ranks", std::to_string(p));
    const auto model = make_on_ranks(Cut::experts, checkpoint, {.sequences = 2, .capacity = 8}, options);
    std::vector<Token> tokens = first;
    tokens.insert(tokens.end(), second.begin(), second.end());
    std::vector<index_t> wanted(tokens.size());
    std::iota(wanted.begin(), wanted.end(), index_t{0});
    model->logits(tokens, {{0, 0, 7, 0}, {1, 7, 5, 0}}, wanted);
    const auto reports = rank_reports(*model);
    CHECK(sent_by_all(reports, &Traffic::all_to_all) == expected);
    CHECK(sent_by_all(reports, &Traffic::all_gather) == 0);
  }
}

TEST_CASE("bytes of the cache per rank: heads are split, latents are not, sequences are", "[parallel]") {
  const index_t p = GENERATE(1, 2, 3, 4), C = 15;
  on_every_model([&](const Checkpoint& checkpoint) {
    const HeadSizes heads = heads_of(checkpoint);
    if (p > heads.query_heads) return;
    const index_t layers = model_sizes(checkpoint.config()).layers;
    const AttentionTensors tensors = attention_tensors(checkpoint, 0);
    const auto* const latent = std::get_if<LatentTensors>(&tensors);
    const std::size_t per_head = sizeof(float) * C * layers * (heads.key_width + heads.value_width);
    const std::size_t per_latent = latent ? sizeof(float) * C * layers * latent->sizes.row_width() : 0;
    const auto slices = split_heads(heads, p);
    const auto by_outputs = reports_after(Cut::outputs, checkpoint, p, {C}), by_sums = reports_after(Cut::sums, checkpoint, p, {C}),
               by_experts = reports_after(Cut::experts, checkpoint, p, {C});
    index_t groups = 0;
    for (index_t r = 0; r < p; ++r) {
      CAPTURE(p, r);
      CHECK(by_outputs[r].state.allocated == per_head * slices.groups[r].count);
      CHECK(by_outputs[r].state.used == by_outputs[r].state.allocated);
      CHECK(by_sums[r].state.allocated == (latent ? per_latent : per_head * slices.groups[r].count));  // a latent is on every rank
      const std::size_t whole = latent ? per_latent : per_head * heads.key_value_heads;
      CHECK(by_experts[r].state.allocated == (r == 0 ? whole : 0));  // the one sequence is on rank 0
      groups += slices.groups[r].count;
    }
    CHECK(groups == std::max(p, heads.key_value_heads));  // fewer groups than ranks: kept more than once
  });
}

TEST_CASE("a rank packs its slices and nothing else", "[parallel]") {
  const index_t p = GENERATE(1, 2, 3);
  for (const char* name : {"tiny-gqa", "tiny-mla"}) {
    const Checkpoint whole(shipped(name));
    const ModelTensors tensors = model_tensors(whole);
    const HeadSizes heads = heads_of(whole);
    const index_t M = tensors.embedding.columns, V = tensors.embedding.rows;
    std::size_t packed_by_all = 0, replicated = 0, cut = 0;  // in numbers of 2 bytes
    for (const LayerTensors& layer : tensors.layers) {
      cut += M * heads.query_heads * heads.value_width;  // the output matrix
      if (const auto* grouped = std::get_if<GroupedTensors>(&layer.attention)) {
        cut += grouped->query.weight.rows * M;
        replicated += (std::max(p, heads.key_value_heads)) * 2 * heads.key_width * M;
      } else {
        const LatentTensors& latent = std::get<LatentTensors>(layer.attention);
        cut += latent.query_up.rows * latent.query_up.columns + latent.latent_up.rows * latent.latent_up.columns;
        replicated += p * (latent.query_down->weight.rows + latent.latent_down.weight.rows) * M;
      }
      if (const auto* dense = std::get_if<SwiGluTensors>(&layer.feed_forward)) cut += 3 * dense->gate.weight.rows * M;
      if (const auto* mixture = std::get_if<MixtureTensors>(&layer.feed_forward)) {
        cut += 3 * mixture->shared->gate.weight.rows * M;  // experts are packed when they are first chosen
        replicated += p * mixture->gate.rows * M * (mixture->gate.type == DType::f32 ? 2 : 1);
      }
    }
    cut += V * M;
    const auto ends = thread_communicators(p);
    std::vector<std::size_t> by_rank(p);
    for (index_t r = 0; r < p; ++r) {
      const Checkpoint checkpoint(shipped(name));
      checkpoint.on_packed([&](std::size_t bytes) { by_rank[r] += bytes; });
      make_rank_model(Cut::outputs, checkpoint, {.sequences = 1, .capacity = 4}, *ends[r]);
      packed_by_all += by_rank[r];
    }
    CAPTURE(name, p, by_rank);
    CHECK(packed_by_all == 2 * (cut + replicated));
    CHECK(static_cast<double>(*std::ranges::max_element(by_rank)) < 1.25 * static_cast<double>(packed_by_all) / static_cast<double>(p));
  }
}

namespace {

/// A checkpoint of which one weight is no number.
class Damaged {
 public:
  Damaged(const std::filesystem::path& original, const std::string& tensor, index_t element) {
    for (const auto& entry : std::filesystem::directory_iterator(original))
      if (entry.is_regular_file()) std::filesystem::copy_file(entry.path(), directory_.path() / entry.path().filename());
    const Checkpoint checkpoint(original);
    const std::byte* begin = checkpoint.raw(tensor).data.data();
    for (const std::string& name : checkpoint.names()) begin = std::min(begin, checkpoint.raw(name).data.data());
    const auto file = directory_.path() / "model.safetensors";
    const auto at = std::filesystem::file_size(file) - checkpoint.bytes() +
                    static_cast<std::size_t>(checkpoint.raw(tensor).data.data() - begin) + element * element_size(checkpoint.entry(tensor).type);
    std::fstream out(file, std::ios::binary | std::ios::in | std::ios::out);
    out.seekp(static_cast<std::streamoff>(at));
    const std::uint32_t nan = 0x7fc07fc0;  // in bf16 as in f32
    out.write(reinterpret_cast<const char*>(&nan), static_cast<std::streamsize>(element_size(checkpoint.entry(tensor).type)));
  }
  const std::filesystem::path& path() const { return directory_.path(); }

 private:
  TemporaryDirectory directory_;
};

}  // namespace

TEST_CASE("a rank that fails stops all, and the error is its own", "[parallel]") {
  SECTION("while the model is made") {
    const Damaged files(shipped("tiny-gqa"), "model.layers.2.mlp.down_proj.weight", 191 * 384);  // the last row: the last rank's
    for (const index_t ranks : {2, 4}) {
      CAPTURE(ranks);
      CHECK(holds(error_of([&] { make_decoder(Checkpoint(files.path()), on("parallel", ranks), {.sequences = 1, .capacity = 4}); }),
                  "down_proj.weight' has a weight in row"));
    }
  }
  SECTION("in the middle of a step, when an expert is first chosen") {
    const Checkpoint checkpoint(shipped("tiny-mla"));
    const Damaged files(shipped("tiny-mla"), "model.layers.3.mlp.experts.9.up_proj.weight", 47 * 192);
    for (const char* name : {"parallel", "parallel-experts", "parallel-reduce"}) {
      CAPTURE(name);
      Decoder decoder = make_decoder(Checkpoint(files.path()), on(name, 2), {.sequences = 2, .capacity = 200});
      const std::vector<Token> tokens = random_tokens(150, 2048, 6);
      CHECK(holds(error_of([&] { decoder.logits({{0, tokens}, {1, tokens}}); }), "experts.9.up_proj.weight' has a weight in row"));
      CHECK(decoder.length(0) == 0);
      CHECK(holds(error_of([&] { decoder.logits(0, {1}); }), "experts.9"));  // and no step is tried again
      CHECK_NOTHROW(decoder.state_bytes());
    }
  }
}

TEST_CASE("ranks have an equal part of the threads, and nobody has none", "[parallel]") {
  const Checkpoint checkpoint(shipped("tiny-gqa"));
  const index_t before = threads();
  for (const index_t count : {1, 2, 5}) {
    set_threads(count);
    Decoder decoder = make_decoder(checkpoint, on("parallel", 3), {.sequences = 1, .capacity = 30});
    CHECK(exact(decoder.logits(0, random_tokens(30, 2048, 8)), whole_logits(checkpoint, find_stage("uncached"), random_tokens(30, 2048, 8))));
    CHECK(threads() == count);
  }
  set_threads(before);
}

TEST_CASE("ranks that do not have the same are told before anything is done", "[parallel]") {
  const auto ends = thread_communicators(2);
  std::string said;
  std::thread other([&] {
    said = error_of([&] { require_same(*ends[1], "checkpoint", 2); });
    ends[1]->abort(said);
  });
  CHECK(error_of([&] { require_same(*ends[0], "checkpoint", 1); }) == "rank 1 has another checkpoint than rank 0: all ranks need the same");
  other.join();
}
