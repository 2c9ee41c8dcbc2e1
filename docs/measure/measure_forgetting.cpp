#include <cmath>
#include <set>

#include "chapters/07_long_context/fastgen.hpp"
#include "chapters/07_long_context/forgetting_attention.hpp"
#include "chapters/07_long_context/heavy_hitters.hpp"
#include "chapters/07_long_context/least_recently_used.hpp"
#include "chapters/07_long_context/snap.hpp"
#include "chapters/studies/heat_map.hpp"
#include "chapters/studies/loss_after_prompt.hpp"
#include "chapters/studies/needle.hpp"
#include "common/model/metrics.hpp"
#include "common/text/table.hpp"
#include "docs/measure/measurements.hpp"

namespace kv::book {
namespace {

constexpr index_t passages = 6;
constexpr index_t needle_tokens = 4096, needle_depths = 11, story_tokens = 280, map_budget = 48, timed_tokens = 200;
const std::vector<index_t> loss_budgets{16, 32, 64, 128, 256, 512}, needle_budgets{128, 256, 512, 1024};
constexpr const char* small_models = "The models have 2 to 4 million parameters.";

/// A way to forget, as the tables call it.
struct Way {
  std::string name, stage;
  const char* sinks = nullptr;

  Stage within(index_t budget) const {
    Stage result = find_stage(stage);
    result.options.set("budget", std::to_string(budget));
    if (sinks) result.options.set("sinks", sinks);
    return result;
  }
};

const std::vector<Way> ways{{"window", "streaming", "0"}, {"4 sinks and a window", "streaming", "4"}, {"heavy-hitters", "heavy-hitters"},
                            {"lru", "lru"},               {"snap", "snap"},                           {"fastgen, mass 95", "fastgen"}};

bool runs_on(const Way& way, const Checkpoint& checkpoint) {
  return way.stage != "fastgen" || family(checkpoint.config()) == Family::gqa;
}

Stage full_cache(const Checkpoint& checkpoint) {
  return find_stage(family(checkpoint.config()) == Family::gqa ? "preallocated" : "absorbed");
}

std::vector<Token> slice(const std::vector<Token>& tokens, index_t first, index_t count) {
  const auto begin = tokens.begin() + static_cast<std::ptrdiff_t>(first);
  return {begin, begin + static_cast<std::ptrdiff_t>(count)};
}

std::vector<Token> held_out(const Checkpoint& checkpoint, const char* file) {
  return Tokenizer(checkpoint.directory() / "tokenizer.json")
      .encode_with_special(text_of(checkpoint.directory().parent_path() / "held_out" / file));
}

// ---- loss over the budget ----

LossAndBytes loss_of(const Checkpoint& checkpoint, const Stage& stage, const std::vector<Token>& text) {
  Decoder decoder = make_decoder(checkpoint, stage, {.sequences = 1, .capacity = passage_tokens});
  return loss_after_prompt(decoder, text, passages);
}

void measure_loss(const std::string& model, const Checkpoint& checkpoint, Report& report, std::vector<JsonObject>& numbers) {
  const std::vector<Token> text = held_out(checkpoint, "stream.txt");
  Plot plot{.title = model + ": loss over the budget", .x_label = "rows per key/value head", .y_label = "nats per token", .series = {}};
  MarkdownTable table{{"cache"}};
  for (const index_t budget : loss_budgets) table[0].push_back(std::to_string(budget) + " rows");
  table[0].push_back("bytes at 64");
  const auto [full, full_bytes] = loss_of(checkpoint, full_cache(checkpoint), text);
  plot.series.push_back({"full cache", {}});
  for (const index_t budget : loss_budgets) plot.series[0].points.push_back({static_cast<double>(budget), full});
  table.push_back({"full cache"});
  table.back().insert(table.back().end(), loss_budgets.size(), decimal(full, 3));
  table.back().push_back(grouped(full_bytes));
  for (const Way& way : ways) {
    if (!runs_on(way, checkpoint)) continue;
    plot.series.push_back({way.name, {}});
    table.push_back({way.name});
    std::size_t bytes_at_64 = 0;
    for (const index_t budget : loss_budgets) {
      const auto [loss, bytes] = loss_of(checkpoint, way.within(budget), text);
      plot.series.back().points.push_back({static_cast<double>(budget), loss});
      table.back().push_back(decimal(loss, 3));
      if (budget == 64) bytes_at_64 = bytes;
      numbers.push_back(JsonObject().set("model", model).set("cache", way.name).set("budget", budget).set("loss", loss)
                            .set("full_cache_loss", full).set("state_bytes", bytes));
    }
    table.back().push_back(grouped(bytes_at_64));
  }
  const Report of_model = report.with_model(model);
  const std::string name = "forgetting_loss_" + model.substr(5);
  of_model.figure(name, plot);
  of_model.table(name, table,
                 "Nats per token over the last " + std::to_string(passage_tokens - passage_prompt_tokens) + " of " + grouped(passage_tokens) + " tokens, " +
                     std::to_string(passages) + " passages of held-out text; the first " + std::to_string(passage_prompt_tokens) +
                     " are the prompt. Bytes: held at the end of a passage. " + small_models);
}

// ---- needles over the budget ----

double recall(const Checkpoint& checkpoint, const Haystack& haystack, const Stage& stage) {
  Decoder decoder = make_decoder(checkpoint, stage, {.sequences = 1, .capacity = needle_tokens});
  index_t found = 0;
  for (index_t i = 0; i < needle_depths; ++i)
    found += ask(decoder, haystack.text(needle_tokens, static_cast<double>(i) / (needle_depths - 1), i)).is_right();
  return static_cast<double>(found) / needle_depths;
}

void measure_needles(const std::string& model, const Checkpoint& checkpoint, Report& report, std::vector<JsonObject>& numbers) {
  const Tokenizer tokenizer(checkpoint.directory() / "tokenizer.json");
  const Haystack haystack(tokenizer, tokenizer.encode_with_special(""),
                          text_of(checkpoint.directory().parent_path() / "held_out/hay.txt"),
                          read_needle_task(Json::read(checkpoint.directory() / "needle.json")));
  Plot plot{.title = model + ": needles found over the budget", .x_label = "rows per key/value head", .y_label = "share found", .series = {}};
  MarkdownTable table{{"cache"}};
  for (const index_t budget : needle_budgets) table[0].push_back(grouped(budget) + " rows");
  for (const Way& way : ways) {
    if (!runs_on(way, checkpoint)) continue;
    plot.series.push_back({way.name, {}});
    table.push_back({way.name});
    for (const index_t budget : needle_budgets) {
      const double share = recall(checkpoint, haystack, way.within(budget));
      plot.series.back().points.push_back({static_cast<double>(budget), share});
      table.back().push_back(decimal(share, 2));
      numbers.push_back(JsonObject().set("model", model).set("cache", way.name).set("budget", budget).set("found", share));
    }
  }
  const Report of_model = report.with_model(model + ", whose weights are written down");
  const std::string name = model == "needle" ? "forgetting_needle" : "forgetting_needle_mla";
  of_model.figure(name, plot);
  of_model.table(name, table,
                 "Share of needles found in texts of " + grouped(needle_tokens) + " tokens, at " + std::to_string(needle_depths) +
                     " depths from the beginning to the end.");
}

// ---- which rows and which heads ----

/// The layers that a stage makes, to look into.
struct Watched {
  std::vector<ForgettingAttention*> layers;
  Stage stage = find_stage("preallocated");

  explicit Watched(const MakePolicy& make_policy) {
    stage.make = MakeLayers([this, make_policy](const Checkpoint& checkpoint, const Limits& limits, const StageOptions&) -> MakeLayer {
      return [=, this](index_t layer) -> LayerHalves {
        auto made = std::make_unique<ForgettingAttention>(head_projection(checkpoint, layer), limits, 0, make_policy);
        layers.push_back(made.get());
        return {std::move(made)};
      };
    });
  }
  Watched(const Watched&) = delete;
};

/// How many of all the layers' heads hold each position.
std::vector<double> holders(const std::vector<ForgettingAttention*>& layers, index_t tokens) {
  std::vector<double> share(tokens, 0.0);
  index_t heads = 0;
  for (const ForgettingAttention* layer : layers)
    for (index_t g = 0; g < layer->rows(0).heads(); ++g, ++heads)
      for (const index_t position : layer->rows(0).positions(g)) share[position] += 1.0;
  for (double& each : share) each /= static_cast<double>(heads);
  return share;
}

/// A text, of which the first half is the prompt.
void feed_story(Decoder& decoder, const std::vector<Token>& story) {
  decoder.last_logits({{0, slice(story, 0, story.size() / 2)}});
  decoder.prompt_ends(0);
  decoder.last_logits({{0, slice(story, story.size() / 2, story.size() - story.size() / 2)}});
}

MakePolicy fastgen(const Checkpoint& checkpoint, index_t budget, double percent) {
  const auto kinds = token_kinds(checkpoint);
  return [=](index_t heads) { return std::make_unique<FastGen>(heads, FastGenSizes{budget, percent / 100}, kinds); };
}

void draw_map(const Checkpoint& checkpoint, const std::vector<Token>& story, const std::filesystem::path& file) {
  HeatMap map{.title = "tiny-gqa (2 to 4 million parameters): rows still held after a story, budget " + std::to_string(map_budget) + ", prompt " +
                       std::to_string(story_tokens / 2),
              .column_label = "position of the row in the text",
              .row_names = {},
              .cells = {},
              .least = 0,
              .most = 1,
              .unit = "of all key/value heads hold it"};
  const auto add = [&](const std::string& name, std::vector<double> share) {
    map.row_names.push_back(name);
    map.cells.push_back(std::move(share));
  };
  for (const index_t sinks : {index_t{0}, index_t{4}}) {
    std::vector<double> share(story_tokens, 0.0);
    for (index_t s = 0; s < story_tokens; ++s) share[s] = s < sinks || story_tokens - s <= map_budget - sinks;
    add(sinks ? "4 sinks and a window" : "window", share);
  }
  const std::vector<std::pair<std::string, MakePolicy>> policies{
      {"heavy-hitters", [](index_t heads) { return std::make_unique<HeavyHitters>(heads, map_budget, map_budget); }},
      {"lru", [](index_t heads) { return std::make_unique<LeastRecentlyUsed>(heads, map_budget, map_budget); }},
      {"snap", [](index_t heads) { return std::make_unique<Snap>(heads, map_budget); }},
      {"fastgen, mass 95", fastgen(checkpoint, map_budget, 95)},
      {"fastgen, mass 70", fastgen(checkpoint, map_budget, 70)}};
  for (const auto& [name, make_policy] : policies) {
    Watched watched(make_policy);
    Decoder decoder = make_decoder(checkpoint, watched.stage, {.sequences = 1, .capacity = story_tokens});
    feed_story(decoder, story);
    add(name, holders(watched.layers, story_tokens));
  }
  write_svg(file.string(), map);
}

const char* name(HeadNeeds needs) {
  constexpr const char* names[]{"special", "+ punctuation", "+ frequent", "+ local", "everything"};
  return names[static_cast<int>(needs)];
}

/// What FastGen gives each head, in a table whose lines are heads.
void table_heads(const Checkpoint& checkpoint, const std::vector<Token>& story, const Report& report) {
  const std::vector<double> masses{50, 70, 80, 90, 95, 99};
  MarkdownTable table{{"layer, head"}};
  for (const double mass : masses) {
    table[0].push_back("mass " + decimal(mass, 0));
    std::vector<const FastGen*> policies;
    Watched watched([&, make = fastgen(checkpoint, map_budget, mass)](index_t heads) {
      auto policy = make(heads);
      policies.push_back(static_cast<const FastGen*>(policy.get()));
      return policy;
    });
    Decoder decoder = make_decoder(checkpoint, watched.stage, {.sequences = 1, .capacity = story_tokens});
    feed_story(decoder, story);
    index_t line = 1;
    for (index_t layer = 0; layer < policies.size(); ++layer)
      for (index_t g = 0; g < policies[layer]->needs().size(); ++g, ++line) {
        if (table.size() == line) table.push_back({std::to_string(layer) + ", " + std::to_string(g)});
        table[line].push_back(std::string(name(policies[layer]->needs()[g])) + ", " +
                              std::to_string(watched.layers[layer]->rows(0).count(g)));
      }
  }
  report.table("forgetting_heads", table,
               "What each key/value head gets, and the rows that it holds at the end, of a story of " + std::to_string(story_tokens) +
                   " tokens, whose first half is the prompt; budget " + std::to_string(map_budget) + ". " + small_models);
}

/// On latents a row stays if any head wants it: what all heads of a layer together would keep.
void table_latents(const Checkpoint& checkpoint, const std::vector<Token>& story, const Report& report) {
  MarkdownTable table{{"mass", "rows per head, mean", "rows that some head of the layer keeps, mean", "of rows in the text"}};
  for (const double mass : {50.0, 70.0, 80.0, 90.0, 95.0, 99.0}) {
    Watched watched(fastgen(checkpoint, map_budget, mass));
    Decoder decoder = make_decoder(checkpoint, watched.stage, {.sequences = 1, .capacity = story_tokens});
    feed_story(decoder, story);
    double rows = 0, heads = 0, wanted = 0;
    for (const ForgettingAttention* layer : watched.layers) {
      std::set<index_t> all;
      for (index_t g = 0; g < layer->rows(0).heads(); ++g, ++heads) {
        const std::vector<index_t>& positions = layer->rows(0).positions(g);
        rows += static_cast<double>(positions.size());
        all.insert(positions.begin(), positions.end());
      }
      wanted += static_cast<double>(all.size());
    }
    table.push_back({decimal(mass, 0), decimal(rows / heads, 1), decimal(wanted / static_cast<double>(watched.layers.size()), 1),
                     grouped(story_tokens)});
  }
  report.table("forgetting_latents", table,
               "FastGen on tiny-mla with keys and values of all heads made in full, so that each head chooses for itself; a latent row could go "
               "only where no head keeps it. A story of " +
                   std::to_string(story_tokens) + " tokens, budget " + std::to_string(map_budget) + ". " + small_models);
}

// ---- time ----

double milliseconds_per_token(const Checkpoint& checkpoint, const Stage& stage, const std::vector<Token>& text) {
  Decoder decoder = make_decoder(checkpoint, stage, {.sequences = 1, .capacity = passage_tokens});
  decoder.last_logits({{0, slice(text, 0, passage_tokens - timed_tokens)}});
  decoder.prompt_ends(0);
  std::vector<double> times;
  for (index_t t = passage_tokens - timed_tokens; t < passage_tokens; ++t) {
    const Stopwatch watch;
    decoder.last_logits({{0, {text[t]}}});
    times.push_back(watch.milliseconds());
  }
  return median(times);
}

}  // namespace

void measure_forgetting_loss(const Laboratory& laboratory, Report& report) {
  std::vector<JsonObject> numbers;
  for (const std::string model : {"tiny-gqa", "tiny-mla"}) measure_loss(model, Checkpoint(laboratory.data() / model), report, numbers);
  report.numbers("forgetting_loss", numbers);
}

void measure_forgetting_needles(const Laboratory& laboratory, Report& report) {
  std::vector<JsonObject> numbers;
  for (const std::string model : {"needle", "needle-mla"}) measure_needles(model, Checkpoint(laboratory.data() / model), report, numbers);
  report.numbers("forgetting_needles", numbers);
}

void measure_forgetting_rows(const Laboratory& laboratory, Report& report) {
  const Checkpoint heads(laboratory.data() / "tiny-gqa"), latents(laboratory.data() / "tiny-mla");
  const std::vector<Token> story = slice(held_out(heads, "story.txt"), 0, story_tokens);
  draw_map(heads, story, report.folder() / "forgetting_map.svg");
  table_heads(heads, story, report.with_model("tiny-gqa"));
  table_latents(latents, slice(held_out(latents, "story.txt"), 0, story_tokens), report.with_model("tiny-mla"));
}

void measure_forgetting_speed(const Laboratory& laboratory, Report& report) {
  MarkdownTable table{{"model", "cache", "us per token", "over full cache"}};
  std::vector<JsonObject> numbers;
  for (const std::string model : {"tiny-gqa", "tiny-mla"}) {
    const Checkpoint checkpoint(laboratory.data() / model);
    const std::vector<Token> text = held_out(checkpoint, "stream.txt");
    const double full = milliseconds_per_token(checkpoint, full_cache(checkpoint), text);
    const auto add = [&](const std::string& name, double milliseconds) {
      table.push_back({model, name, decimal(1000 * milliseconds, 0), decimal(milliseconds / full, 2)});
      numbers.push_back(JsonObject().set("model", model).set("cache", name).set("ms_per_token", milliseconds));
    };
    add("full cache", full);
    for (const Way& way : ways)
      if (runs_on(way, checkpoint)) add(way.name, milliseconds_per_token(checkpoint, way.within(256), text));
  }
  report.with_model("tiny-gqa and tiny-mla, f32 activations and caches")
      .table("forgetting_speed", table,
             "One token, fed alone, median of the last " + std::to_string(timed_tokens) + " of " + grouped(passage_tokens) +
                 "; budget 256. " + small_models);
  report.numbers("forgetting_speed", numbers);
}

}  // namespace kv::book
