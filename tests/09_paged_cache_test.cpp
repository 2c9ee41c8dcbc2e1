/// Chapter 9, pages: which page holds what is checked against a plain model after every one of many random operations, and what
/// is read through them has the bits of the chapters before, whoever shares a page.
#include <map>
#include <random>

#include "chapters/09_paged_cache/page_table.hpp"
#include "common/files/error.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/decoders.hpp"
#include "tests/support/equality.hpp"
#include "tests/support/random.hpp"

using namespace kv;
using namespace kv::test;

namespace {

/// A store that knows which token each row is of, where everybody else keeps numbers.
struct TokenPages : PageStore {
  explicit TokenPages(const PageSizes& sizes) : sizes(sizes), cells(sizes.pages, std::vector<int>(sizes.rows, -1)) {}
  void put(index_t, index_t, index_t, std::span<const float>, std::span<const float>) override {}
  void copy(index_t from, index_t to) override { cells[to] = cells[from]; }
  const RowBlock& block(const PageList&, index_t, index_t, index_t) const override { throw std::logic_error("not read"); }
  index_t heads() const override { return 1; }
  index_t value_width() const override { return 1; }
  std::size_t row_bytes() const override { return 4; }
  PageSizes sizes;
  std::vector<std::vector<int>> cells;
};

/// A table of two layers, and what it must hold: the tokens of every sequence, and nothing else.
class ModelledTable {
 public:
  ModelledTable(index_t sequences, PageSizes sizes, PrefixIndex::Hash hash)
      : table(sequences, sizes, std::move(hash)), texts(sequences) {
    for (int layer = 0; layer < 2; ++layer) {
      stores.push_back(std::make_shared<TokenPages>(sizes));
      table.add_layer(stores.back(), no_window);
    }
  }

  /// @return whether there was room
  bool append(index_t sequence, const std::vector<Token>& tokens) {
    const Batch batch{{sequence, 0, tokens.size(), texts[sequence].size()}};
    const PoolUsage before = table.usage();
    if (!table.has_room(batch)) {
      CHECK_THROWS_AS(table.reserve(batch), Error);
      const PoolUsage after = table.usage();
      CHECK((after.free == before.free && after.held == before.held && after.rows == before.rows));
      return false;
    }
    for (index_t layer = 0; layer < 2; ++layer) {
      table.reserve(batch);
      table.advance(layer, sequence, tokens.size());
      for (index_t t = 0; t < tokens.size(); ++t) {
        const index_t s = texts[sequence].size() + t, rows = table.sizes().rows;
        stores[layer]->cells[table.pages(sequence)[s / rows]][s % rows] = tokens[t];
      }
    }
    texts[sequence].insert(texts[sequence].end(), tokens.begin(), tokens.end());
    return true;
  }
  void truncate(index_t sequence, index_t length) {
    for (index_t layer = 0; layer < 2; ++layer) CHECK(table.truncate(layer, sequence, length) == length);
    texts[sequence].resize(length);
  }
  void share(index_t from, index_t to, index_t length) {
    for (index_t layer = 0; layer < 2; ++layer) CHECK(table.share(layer, from, to, length) == length);
    texts[to] = part(texts[from], 0, length);
  }
  void reuse(index_t sequence, const std::vector<Token>& tokens) {
    const PageTable::Outlook outlook = table.look_up(tokens);
    const PageTable::Hit hit = table.reuse(sequence, tokens);
    CHECK(hit.reused == outlook.reused);
    CHECK(hit.reused % table.sizes().rows == 0);
    CHECK(hit.reused < tokens.size());
    texts[sequence] = part(tokens, 0, hit.reused);
  }

  /// Every invariant that the headers state.
  void check() const {
    const index_t rows = table.sizes().rows;
    std::map<index_t, index_t> holders, used;
    index_t waste_bound = 0;
    for (index_t sequence = 0; sequence < texts.size(); ++sequence) {
      const std::vector<Token>& text = texts[sequence];
      const PageList& pages = table.pages(sequence);
      REQUIRE(pages.end() == (text.size() + rows - 1) / rows);
      REQUIRE(pages.given_back == 0);
      waste_bound += text.empty() ? 0 : rows - 1;
      for (index_t layer = 0; layer < 2; ++layer) {
        REQUIRE(table.length(layer, sequence) == text.size());
        for (index_t s = 0; s < text.size(); ++s) REQUIRE(stores[layer]->cells[pages[s / rows]][s % rows] == text[s]);
      }
      for (index_t i = 0; i < pages.end(); ++i) {
        ++holders[pages[i]];
        used[pages[i]] = std::max(used[pages[i]], std::min(rows, text.size() - i * rows));
      }
    }
    index_t rows_used = 0;
    for (const auto& [page, count] : used) rows_used += count;
    const PoolUsage usage = table.usage();
    REQUIRE(usage.held == holders.size());
    REQUIRE(usage.rows == rows_used);
    REQUIRE(usage.wasted_rows() <= waste_bound);
    REQUIRE(usage.free + usage.kept + usage.held == usage.pages);
    // What is promised can be had, or reserve() throws std::logic_error. What is kept may stand before a page in use, whose
    // holder has a copy of its own.
    REQUIRE(table.available() <= usage.free + usage.kept);
    REQUIRE(table.available() >= usage.free);
    const std::vector<PageView> views = table.views();
    index_t found_only = 0;
    for (index_t page = 0; page < views.size(); ++page) {
      REQUIRE(views[page].sequences.size() == holders[page]);
      found_only += views[page].found && holders[page] == 0;
    }
    REQUIRE(usage.kept == found_only);
  }

  PageTable table;
  std::vector<std::vector<Token>> texts;
  std::vector<std::shared_ptr<TokenPages>> stores;
};

Stage with_page(const char* name, const char* rows) {
  Stage stage = find_stage(name);
  stage.options.set("page", rows);
  return stage;
}

Checkpoint shipped(const char* model) { return Checkpoint(std::filesystem::path(KV_DATA) / model); }

std::uint64_t always_the_same(std::uint64_t, std::span<const Token>) { return 7; }

}  // namespace

TEST_CASE("10,000 random operations leave every invariant true, with a good hash and with a constant one", "[pages]") {
  const bool good = GENERATE(true, false);
  CAPTURE(good);
  ModelledTable model(6, {.rows = 4, .pages = 12}, good ? PrefixIndex::Hash(chained_hash) : PrefixIndex::Hash(always_the_same));
  std::mt19937 random(good ? 11 : 12);
  index_t refused = 0, hits = 0;
  for (int operation = 0; operation < 10000; ++operation) {
    const index_t a = random() % 6, b = random() % 6;
    const index_t length = model.texts[a].size();
    switch (random() % 6) {
      case 0:
      case 1: refused += !model.append(a, random_tokens(1 + random() % 9, 2, random())); break;
      case 2: model.truncate(a, random() % 3 == 0 ? 0 : random() % (length + 1)); break;
      case 3:
        if (a != b) model.share(a, b, random() % (length + 1));
        break;
      case 4: model.table.remember(a, model.texts[a]); break;
      case 5:
        if (length > 0) model.truncate(a, 0);
        model.reuse(a, random_tokens(1 + random() % 20, 2, random() % 40));
        hits += !model.texts[a].empty();
    }
    model.check();
  }
  CHECK(refused > 100);
  CHECK(hits > 100);
}

TEST_CASE("a page that is given back twice, or held after it was given back, is an error", "[pages]") {
  BlockPool pool(2);
  const index_t page = pool.take().value();
  pool.retain(page);
  pool.release(page);
  pool.release(page);
  CHECK_THROWS_AS(pool.release(page), std::logic_error);
  CHECK_THROWS_AS(pool.retain(page), std::logic_error);
  CHECK(pool.free() == 2);
  pool.take();
  pool.take();
  CHECK_FALSE(pool.take());
}

TEST_CASE("a page is no power of two: refused", "[pages]") {
  CHECK_THROWS_AS(PageTable(1, {.rows = 12, .pages = 4}), std::invalid_argument);
  CHECK_THROWS_AS(PageTable(1, {.rows = 0, .pages = 4}), std::invalid_argument);
  const SmallCheckpoint files;
  const auto error = [&](const char* option, const char* value) {
    Stage stage = find_stage("paged");
    stage.options.set(option, value);
    return error_of([&] { make_decoder(files.open(), stage, {.sequences = 1, .capacity = 40}); });
  };
  CHECK(holds(error("page", "24"), "--page 24: must be a power of two"));
  CHECK(holds(error("pages", "2"), "one sequence of 40 tokens alone takes 3"));
}

TEST_CASE("texts whose hashes are equal are told apart by their tokens and by what stands before", "[prefix]") {
  BlockPool pool(8);
  PrefixIndex index(pool, 2, always_the_same);
  const std::vector<Token> one{1, 2}, two{3, 4};
  const index_t a = index.insert(std::nullopt, one, pool.take().value());
  const index_t b = index.insert(std::nullopt, two, pool.take().value());
  const index_t under_a = index.insert(a, one, pool.take().value());
  CHECK(index.find(std::vector<Token>{1, 2, 1, 2}).pages == std::vector<index_t>{a, under_a});
  CHECK(index.find(std::vector<Token>{3, 4, 1, 2}).pages == std::vector<index_t>{b});
  CHECK(index.find(std::vector<Token>{2, 1}).pages.empty());
  CHECK(index.find(std::vector<Token>{1}).pages.empty());
  CHECK(index.find(std::vector<Token>{1, 2, 9, 9}).cut);
  CHECK_FALSE(index.find(std::vector<Token>{3, 4, 9, 9}).cut);
}

TEST_CASE("given up: the least recently used first, not the first that came; children before parents; none in use", "[prefix]") {
  BlockPool pool(5);
  PrefixIndex index(pool, 1, chained_hash);
  const auto add = [&](std::optional<index_t> parent, Token token) {
    const index_t page = pool.take().value();
    index.insert(parent, std::vector<Token>{token}, page);
    pool.release(page);  // kept by the index alone
    return page;
  };
  const index_t parent = add(std::nullopt, 1), child = add(parent, 2), other = add(std::nullopt, 3), in_use = add(std::nullopt, 4);
  pool.retain(in_use);
  index.find(std::vector<Token>{1, 2});
  CHECK(index.reclaimable() == 3);
  CHECK(index.give_up_one());
  CHECK_FALSE(index.contains(other));  // came later than `parent`, but was not used since
  CHECK(index.give_up_one());
  CHECK_FALSE(index.contains(child));
  CHECK(index.contains(parent));
  CHECK(index.find(std::vector<Token>{1, 2}).pages == std::vector<index_t>{parent});  // no hit past what was given up
  CHECK(index.give_up_one());
  CHECK_FALSE(index.give_up_one());
  CHECK(index.contains(in_use));
  CHECK(index.reclaimable() == 0);
  CHECK(pool.free() == 4);
  const index_t older = add(std::nullopt, 5), younger = add(older, 6);  // not looked up since: the parent is the older one
  CHECK(index.give_up_one());
  CHECK(index.contains(older));
  CHECK_FALSE(index.contains(younger));
}

TEST_CASE("a page that is given out again is not found under its old tokens", "[prefix]") {
  ModelledTable model(2, {.rows = 2, .pages = 2}, chained_hash);
  REQUIRE(model.append(0, {1, 2, 3, 4}));
  model.table.remember(0, model.texts[0]);
  model.truncate(0, 0);
  REQUIRE(model.append(1, {5, 6, 7, 8}));  // both pages
  CHECK(model.table.look_up(std::vector<Token>{1, 2, 3, 4, 5}).reused == 0);
  model.check();
}

TEST_CASE("a prompt that is kept in full leaves a token to be fed", "[prefix]") {
  ModelledTable model(2, {.rows = 4, .pages = 8}, chained_hash);
  REQUIRE(model.append(0, {1, 2, 3, 4, 5, 6, 7, 8}));
  model.table.remember(0, model.texts[0]);
  CHECK(model.table.reuse(1, model.texts[0]).reused == 4);
  CHECK(model.table.look_up(std::vector<Token>{1, 2, 3, 4, 5, 6, 7, 8, 9}).reused == 8);
  CHECK(model.table.look_up(std::vector<Token>{1}).reused == 0);
  CHECK_THROWS_AS(model.table.reuse(1, model.texts[0]), std::logic_error);
}

TEST_CASE("a hit is whole pages, leaves a token to be fed, and says whether the index goes on with another page", "[prefix]") {
  ModelledTable model(2, {.rows = 2, .pages = 8}, chained_hash);
  REQUIRE(model.append(0, {1, 2, 3, 4, 5, 6}));
  model.table.remember(0, model.texts[0]);
  struct Case {
    std::vector<Token> tokens;
    index_t reused;
    bool cut;
  };
  for (const auto& [tokens, reused, cut] : std::vector<Case>{{{1, 2, 3, 4, 5, 6, 7, 8, 9}, 6, false},  // nothing is kept behind
                                                             {{1, 2, 3, 4, 5, 6}, 4, false},           // 6 must be fed
                                                             {{1, 2, 3, 4, 5, 9, 9}, 4, true},
                                                             {{1, 2, 9, 4, 5}, 2, true},
                                                             {{1, 2, 9, 4}, 2, false},  // no whole page was looked for
                                                             {{9, 2, 3, 4, 5}, 0, false},
                                                             {{1, 2}, 0, false}}) {
    CAPTURE(tokens);
    CHECK(model.table.look_up(tokens).reused == reused);
    const PageTable::Hit hit = model.table.reuse(1, tokens);
    CHECK(hit.reused == reused);
    CHECK(hit.cut == cut);
    for (index_t layer = 0; layer < 2; ++layer) model.table.truncate(layer, 1, 0);
  }
  model.check();
}

TEST_CASE("a page is copied when the first of its holders writes, and not for the last", "[pages]") {
  ModelledTable model(3, {.rows = 4, .pages = 8}, chained_hash);
  REQUIRE(model.append(0, {1, 2, 3, 4, 5}));
  model.share(0, 1, 5);
  model.share(0, 2, 5);
  CHECK(model.table.usage().held == 2);
  CHECK(model.table.needed({{0, 0, 1, 5}, {1, 1, 1, 5}, {2, 2, 1, 5}}) == 2);
  REQUIRE(model.append(1, {6}));
  REQUIRE(model.append(2, {7}));
  REQUIRE(model.append(0, {8}));
  CHECK(model.table.usage().held == 4);  // the full page, and three that follow it
  model.check();
}

TEST_CASE("paged equals uncached, and paged-absorbed equals absorbed: any page, any chunks, bit for bit", "[pages]") {
  struct Twin {
    const char *model, *stage, *reference;
  };
  const Twin twin = GENERATE(Twin{"tiny-gqa", "paged", "uncached"}, Twin{"tiny-mla", "paged", "uncached"},
                             Twin{"tiny-mla", "paged-absorbed", "absorbed"}, Twin{"tiny-gqa", "paged-fp8", "fp8"},
                             Twin{"tiny-mla", "paged-fp8", "fp8"});
  const Checkpoint checkpoint = shipped(twin.model);
  const std::vector<Token> tokens = random_tokens(150, 512, 31);
  const Tensor<2> expected = whole_logits(checkpoint, find_stage(twin.reference), tokens);
  for (const char* page : {"1", "16", "64", "128", "256"}) {
    CAPTURE(twin.model, twin.stage, page);
    Decoder decoder = make_decoder(checkpoint, with_page(twin.stage, page), {.sequences = 2, .capacity = 150});
    CHECK(exact(logits_in_chunks(decoder, 0, tokens, {150}), expected));
    CHECK(exact(logits_in_chunks(decoder, 1, tokens, {15, 1, 1, 110, 2, 21}), expected));
  }
}

TEST_CASE("sequences that fork, and forget, and go on, have the bits of those that were alone", "[pages]") {
  const char* const page = GENERATE("4", "16");
  const bool latents = GENERATE(false, true);
  CAPTURE(page, latents);
  const Checkpoint checkpoint = shipped(latents ? "tiny-mla" : "tiny-gqa");
  const Stage stage = with_page(latents ? "paged-absorbed" : "paged", page);
  const Stage& reference = find_stage(latents ? "absorbed" : "uncached");
  const std::vector<Token> prompt = random_tokens(21, 512, 33);
  Decoder decoder = make_decoder(checkpoint, stage, {.sequences = 3, .capacity = 40});
  decoder.logits(0, prompt);
  std::vector<std::vector<Token>> texts(3, prompt);
  for (index_t b = 1; b < 3; ++b) decoder.share(0, b, 21);
  const auto go_on = [&](index_t count, unsigned seed) {
    std::vector<NewTokens> batch;
    for (index_t b = 0; b < 3; ++b) {
      batch.push_back({b, random_tokens(count, 512, seed + static_cast<unsigned>(b))});
      texts[b].insert(texts[b].end(), batch[b].tokens.begin(), batch[b].tokens.end());
    }
    const Tensor<2> found = decoder.last_logits(batch);
    for (index_t b = 0; b < 3; ++b)
      CHECK(exact(rows(found, b, 1), rows(whole_logits(checkpoint, reference, texts[b]), texts[b].size() - 1, 1)));
  };
  go_on(1, 40);
  go_on(3, 50);
  decoder.truncate(1, 19);  // into what all share
  texts[1].resize(19);
  decoder.share(2, 0, 23);
  texts[0] = part(texts[2], 0, 23);
  go_on(5, 60);
}

TEST_CASE("windows: pages that no layer sees go back, and the bits are uncached's", "[pages]") {
  const SmallCheckpoint files({.context = 200, .config = {{"sliding_window", "9"}, {"model_type", "\"mistral\""},
                                                          {"architectures", "[\"MistralForCausalLM\"]"}}});
  const std::vector<Token> tokens = random_tokens(120, 61, 34);
  const Tensor<2> expected = whole_logits(files.open(), find_stage("uncached"), tokens);
  const Limits limits{.sequences = 1, .capacity = 120};
  Stage stage = with_page("paged", "4");
  const auto table = make_page_table(limits, stage.options);
  Decoder decoder = make_decoder(files.open(), on_table(stage, table), limits);
  for (index_t t = 0; t < 120; ++t) {
    CHECK(exact(decoder.logits(0, {tokens[t]}), rows(expected, t, 1)));
    CHECK(table->usage().held <= 9 / 4 + 2);
  }
  decoder.truncate(0, 119);
  CHECK(decoder.remembered(0) == 119);
  CHECK(exact(decoder.logits(0, {tokens[119]}), rows(expected, 119, 1)));
  decoder.truncate(0, 60);
  CHECK(decoder.remembered(0) == 0);  // what it would see is gone
  CHECK(table->usage().held == 0);
  CHECK(exact(decoder.logits(0, part(tokens, 60, 2)), rows(expected, 60, 2)));
}
