#include <cmath>
#include <iostream>

#include "chapters/05_mixture_of_experts/balance.hpp"
#include "chapters/models/mixture_config.hpp"
#include "chapters/program/session.hpp"
#include "chapters/studies/expert_usage.hpp"
#include "chapters/studies/heat_map.hpp"
#include "common/files/error.hpp"
#include "common/files/text_file.hpp"
#include "common/text/table.hpp"

namespace kv {
namespace {

constexpr index_t default_tokens = 512;

/// One kind of text, and what the experts did with it.
struct Text {
  std::string name;
  std::vector<Token> tokens;
  ExpertUsage usage;
};

// ---- texts ----

/// At most as many tokens as asked for and as the model can look back on.
std::vector<Token> first_tokens(const Checkpoint& checkpoint, const Tokenizer& tokenizer, const Arguments& arguments,
                                const std::string& text) {
  std::vector<Token> tokens = encode_prompt(checkpoint.directory(), tokenizer, text);
  const index_t limit = std::min(arguments.size_or("--tokens", default_tokens, 2), model_sizes(checkpoint.config()).context);
  tokens.resize(std::min(tokens.size(), limit));
  return tokens;
}

std::vector<Text> texts(const Checkpoint& checkpoint, const Arguments& arguments) {
  if (arguments.has("--prompt") == arguments.has("--file")) throw UsageError("give either --prompt or --file");
  const Tokenizer tokenizer = open_tokenizer(checkpoint.directory());
  std::vector<Text> result;
  const auto add = [&](const std::string& name, const std::string& text) {
    show_progress(name + " ...");
    std::vector<Token> tokens = first_tokens(checkpoint, tokenizer, arguments, text);
    result.push_back({name, tokens, expert_usage(checkpoint, tokens)});
  };
  if (arguments.has("--prompt"))
    add("prompt", arguments.text("--prompt"));
  else
    for (const std::filesystem::path file : arguments.list("--file")) add(file.stem().string(), read_text(file));
  clear_progress();
  return result;
}

// ---- what they show ----

std::string percent(double part, double whole) { return decimal(100.0 * part / whole, 0) + "%"; }

/// 1: an even share.
std::vector<double> shares(const Routing& routing, index_t experts) {
  const std::vector<index_t> loads = expert_loads(routing, experts);
  double total = 0;
  for (const index_t load : loads) total += static_cast<double>(load);
  std::vector<double> result;
  for (const index_t load : loads) result.push_back(total > 0 ? static_cast<double>(load) * static_cast<double>(experts) / total : 0);
  return result;
}

std::string usage_table(const std::vector<Text>& texts, index_t experts) {
  Table table({"text", "layer", "tokens", "busiest expert", "its share", "least busy", "its share", "unused", "largest violation"});
  for (const Text& text : texts)
    for (const auto& [layer, routing] : text.usage.routings) {
      const std::vector<index_t> loads = expert_loads(routing, experts);
      const std::vector<double> share = shares(routing, experts);
      const auto most = std::ranges::max_element(share), least = std::ranges::min_element(share);
      table.add({text.name, std::to_string(layer), std::to_string(routing.size()), std::to_string(most - share.begin()), decimal(*most, 2),
                 std::to_string(least - share.begin()), decimal(*least, 2), std::to_string(std::ranges::count(loads, index_t{0})),
                 decimal(largest_violation(loads), 2)});
    }
  return table.text();
}

/// Layer by layer: an expert has the same number in other layers, and nothing else in common with them.
HeatMap usage_map(const std::vector<Text>& texts, index_t experts) {
  HeatMap map{.title = "tokens per expert, in even shares", .column_label = "expert", .row_names = {}, .cells = {}, .least = 0, .most = 0, .unit = "even shares"};
  for (const auto& [layer, unused] : texts.front().usage.routings)
    for (const Text& text : texts) {
      map.row_names.push_back("layer " + std::to_string(layer) + ", " + text.name);
      map.cells.push_back(shares(text.usage.routings.at(layer), experts));
      map.most = std::max(map.most, *std::ranges::max_element(map.cells.back()));
    }
  return map;
}

/// Mean over texts and layers.
double mean_distinct(const std::vector<Text>& texts, index_t batch) {
  double total = 0, count = 0;
  for (const Text& text : texts)
    for (const auto& [layer, routing] : text.usage.routings) total += distinct_experts(routing, batch), ++count;
  return total / count;
}

std::vector<index_t> batches(const std::vector<Text>& texts) {
  std::vector<index_t> result;
  for (index_t batch = 1; batch <= 256; batch *= 2)
    if (std::ranges::all_of(texts, [&](const Text& text) { return text.tokens.size() >= batch; })) result.push_back(batch);
  return result;
}

std::string distinct_table(const std::vector<Text>& texts, const MixtureSizes& sizes) {
  Table table({"tokens in the batch", "experts read", "if all were equally likely", "of all", "experts read per token"});
  for (const index_t batch : batches(texts)) {
    const double distinct = mean_distinct(texts, batch);
    table.add({std::to_string(batch), decimal(distinct, 1), decimal(even_distinct_experts(sizes.experts, sizes.chosen, batch), 1),
               percent(distinct, static_cast<double>(sizes.experts)), decimal(distinct / static_cast<double>(batch), 2)});
  }
  return table.text();
}

// ---- without one expert ----

/// Loss added by the loss of each expert, layer by layer.
std::map<index_t, std::vector<double>> harm(const std::vector<Ablation>& ablations, double loss) {
  std::map<index_t, std::vector<double>> result;
  for (const Ablation& ablation : ablations) result[ablation.layer].push_back(ablation.loss - loss);
  return result;
}

std::vector<Ablation> ablate(const Checkpoint& checkpoint, const Text& text) {
  const auto ablations = ablate_experts(checkpoint, text.tokens, [&](index_t number, index_t count) {
    show_progress(text.name + " without expert " + std::to_string(number + 1) + " of " + std::to_string(count));
  });
  clear_progress();
  return ablations;
}

std::string ablation_table(const Text& text, const std::vector<Ablation>& ablations) {
  Table table({"layer", "costliest expert", "loss + nats", "second", "loss + nats", "median + nats", "experts the loss falls without"});
  for (const auto& of_layer : harm(ablations, text.usage.loss)) {
    const index_t layer = of_layer.first;
    const std::vector<double>& increases = of_layer.second;
    std::vector<index_t> order(increases.size());
    for (index_t e = 0; e < order.size(); ++e) order[e] = e;
    std::ranges::stable_sort(order, std::greater(), [&](index_t e) { return increases[e]; });
    const index_t second = order[std::min<index_t>(1, order.size() - 1)];
    table.add({std::to_string(layer), std::to_string(order[0]), decimal(increases[order[0]], 4), std::to_string(second),
               decimal(increases[second], 4), decimal(median(increases), 4),
               std::to_string(std::ranges::count_if(increases, [](double increase) { return increase < 0; }))});
  }
  return table.text();
}

HeatMap ablation_map(const std::vector<Text>& texts, const std::vector<std::vector<Ablation>>& ablations) {
  HeatMap map{.title = "loss added when one expert is switched off", .column_label = "expert", .row_names = {}, .cells = {}, .least = 0, .most = 0, .unit = "nats"};
  for (index_t i = 0; i < texts.size(); ++i)
    for (auto& [layer, increases] : harm(ablations[i], texts[i].usage.loss)) {
      map.row_names.push_back(texts[i].name + ", layer " + std::to_string(layer));
      map.cells.push_back(increases);
      map.most = std::max(map.most, *std::ranges::max_element(increases));
    }
  return map;
}

// ---- output ----

JsonObject describe(const Text& text, const std::vector<Ablation>& ablations, index_t experts) {
  std::vector<JsonObject> layers;
  for (const auto& [layer, routing] : text.usage.routings) {
    const std::vector<index_t> loads = expert_loads(routing, experts);
    layers.push_back(JsonObject()
                         .set("layer", layer)
                         .set("loads", std::vector<std::int64_t>(loads.begin(), loads.end()))
                         .set("largest_violation", largest_violation(loads)));
  }
  std::vector<JsonObject> without;
  for (const Ablation& each : ablations)
    without.push_back(JsonObject().set("layer", each.layer).set("expert", each.expert).set("loss", each.loss));
  JsonObject object;
  object.set("text", text.name).set("tokens", text.tokens.size()).set("loss", text.usage.loss).set("layers", layers);
  if (!without.empty()) object.set("ablations", without);
  return object;
}

JsonObject describe_model(const Checkpoint& checkpoint, const MixtureSizes& sizes) {
  const FeedForwardCost cost = feed_forward_cost(checkpoint.config());
  return JsonObject()
      .set("model", checkpoint.directory().string())
      .set("experts", sizes.experts)
      .set("chosen", sizes.chosen)
      .set("mixture_layers", cost.mixture_layers)
      .set("feed_forward_parameters", cost.parameters)
      .set("active_feed_forward_parameters", cost.active_parameters);
}

void run(const Arguments& arguments) {
  apply_threads(arguments);
  const Checkpoint checkpoint = open_checkpoint(arguments);
  family(checkpoint.config());
  const MixtureSizes sizes = mixture_sizes(checkpoint.config());
  const std::vector<Text> all = texts(checkpoint, arguments);
  std::vector<std::vector<Ablation>> ablations(all.size());
  if (arguments.has("--ablate"))
    for (index_t i = 0; i < all.size(); ++i) ablations[i] = ablate(checkpoint, all[i]);
  if (arguments.has("--svg"))
    write_svg(arguments.text("--svg"), arguments.has("--ablate") ? ablation_map(all, ablations) : usage_map(all, sizes.experts));

  if (arguments.has("--json")) {
    std::vector<JsonObject> described, distinct;
    for (index_t i = 0; i < all.size(); ++i) described.push_back(describe(all[i], ablations[i], sizes.experts));
    for (const index_t batch : batches(all)) distinct.push_back(JsonObject().set("batch", batch).set("experts", mean_distinct(all, batch)));
    std::cout << describe_model(checkpoint, sizes).set("distinct_experts", distinct).set("texts", described).text() << "\n";
    return;
  }
  const FeedForwardCost cost = feed_forward_cost(checkpoint.config());
  std::cout << checkpoint.directory().string() << ": " << cost.mixture_layers << " of " << cost.layers << " layers are mixtures, "
            << sizes.chosen << " of " << sizes.experts << " experts" << (sizes.shared_width == 0 ? "" : " and a shared one") << "\n"
            << "feed-forward parameters: " << grouped(cost.parameters) << ", of which a token uses " << grouped(cost.active_parameters)
            << " (" << percent(static_cast<double>(cost.active_parameters), static_cast<double>(cost.parameters)) << ")\n\n"
            << usage_table(all, sizes.experts) << "1: an even share\n\n"
            << "a decode step of several sequences, mean over layers and texts:\n" << distinct_table(all, sizes);
  if (arguments.has("--ablate"))
    for (index_t i = 0; i < all.size(); ++i)
      std::cout << "\nswitching off one expert at a time, " << all[i].name << ", loss " << decimal(all[i].usage.loss, 4) << " nats per token with all:\n"
                << ablation_table(all[i], ablations[i]);
}

}  // namespace

const Command experts_command{"experts",
                              "which experts a text uses, how evenly, and what is lost without one",
                              {model_option,
                               {"--prompt", "TEXT", "a text to look at"},
                               {"--file", "A,B,...", "or text files, each a kind of text"},
                               {"--tokens", "N", "at most N tokens of each (default 512)"},
                               {"--ablate", "", "switch off one expert at a time and measure the loss"},
                               {"--svg", "FILE", "write a heat map: usage, or with --ablate the loss added"},
                               threads_option, json_option},
                              run};

}  // namespace kv
