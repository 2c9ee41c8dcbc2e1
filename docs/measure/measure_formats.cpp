#include <cmath>
#include <iterator>

#include "chapters/studies/needle.hpp"
#include "common/model/generate.hpp"
#include "common/model/loss.hpp"
#include "common/text/table.hpp"
#include "docs/measure/measurements.hpp"

namespace kv::book {
namespace {

namespace fs = std::filesystem;

const std::vector<std::string> stages{"preallocated", "bf16", "f16", "fp8", "int8", "int4"};
constexpr index_t needles = 20, new_tokens = 400, prompt_tokens = 100;

/// A model and the texts it has never seen.
struct Subject {
  Checkpoint checkpoint;
  Tokenizer tokenizer;
  index_t context;
  std::vector<std::vector<Token>> texts;

  explicit Subject(const fs::path& model)
      : checkpoint(model),
        tokenizer(model / "tokenizer.json"),
        context(model_sizes(checkpoint.config()).context) {
    for (const char* kind : {"story", "chat", "needle", "list", "copy", "hay"})
      texts.push_back(tokenizer.encode_with_special(
          text_of(model.parent_path() / "held_out" / (std::string(kind) + ".txt"))));
  }
  /// The f32 cache of latents is stage absorbed's.
  Decoder decoder(const std::string& stage, index_t sequences, index_t capacity) const {
    const bool is_latent = family(checkpoint.config()) == Family::mla;
    return make_decoder(checkpoint,
                        find_stage(stage == "preallocated" && is_latent ? "absorbed" : stage),
                        {.sequences = sequences, .capacity = capacity});
  }
};

/// All logits of all texts, each cut into windows of the model's context, and the loss of every
/// token that is predicted.
struct Predictions {
  std::vector<Tensor<2>> logits;
  std::vector<double> losses;
};

Predictions predict(const Subject& subject, const std::string& stage) {
  Decoder decoder = subject.decoder(stage, 1, subject.context);
  Predictions result;
  for (const std::vector<Token>& text : subject.texts)
    for (index_t first = 0; first + 1 < text.size(); first += subject.context) {
      const index_t count = std::min(subject.context, text.size() - 1 - first);
      const auto begin = text.begin() + static_cast<std::ptrdiff_t>(first);
      decoder.truncate(0, 0);
      result.logits.push_back(
          decoder.logits(0, {begin, begin + static_cast<std::ptrdiff_t>(count)}));
      for (index_t t = 0; t < count; ++t)
        result.losses.push_back(
            negative_log_likelihood(row(result.logits.back(), t), text[first + t + 1]));
    }
  return result;
}

/// A mean and how far it may be off by chance.
struct Mean {
  double value, standard_error;
};

Mean mean(const std::vector<double>& x) {
  double sum = 0, squares = 0;
  for (const double each : x) sum += each;
  const double n = static_cast<double>(x.size()), value = sum / n;
  for (const double each : x) squares += (each - value) * (each - value);
  return {value, std::sqrt(squares / (n - 1) / n)};
}

/// How a format's predictions differ from those of the f32 cache for the same tokens.
struct Differences {
  Mean loss, added_loss;
  double largest_logit, typical_logit;  // error relative to the largest logit: the largest, and the
                                        // root of the mean square
  double other_best;                    // share of tokens whose most likely one is another
};

Differences differences(const Predictions& found, const Predictions& exact) {
  std::vector<double> added;
  for (index_t i = 0; i < found.losses.size(); ++i)
    added.push_back(found.losses[i] - exact.losses[i]);
  double largest = 0, error = 0, squares = 0, count = 0, others = 0;
  for (index_t i = 0; i < found.logits.size(); ++i) {
    for (index_t j = 0; j < found.logits[i].size(); ++j) {
      const double reference = exact.logits[i].data()[j];
      const double off = std::abs(found.logits[i].data()[j] - reference);
      largest = std::max(largest, std::abs(reference));
      error = std::max(error, off);
      squares += off * off;
    }
    count += static_cast<double>(found.logits[i].size());
    for (index_t t = 0; t < found.logits[i].shape(0); ++t)
      others += most_likely(row(found.logits[i], t)) != most_likely(row(exact.logits[i], t));
  }
  return {mean(found.losses), mean(added), error / largest, std::sqrt(squares / count) / largest,
          others / static_cast<double>(found.losses.size())};
}

/// Greedy texts, one for the beginning of every held-out text.
std::vector<std::vector<Token>> greedy_texts(const Subject& subject, const std::string& stage) {
  std::vector<NewTokens> prompts;
  for (const std::vector<Token>& text : subject.texts)
    prompts.push_back({prompts.size(), {text.begin(), text.begin() + prompt_tokens}});
  Decoder decoder = subject.decoder(stage, prompts.size(), prompt_tokens + new_tokens);
  return generate(decoder, prompts, {.max_new_tokens = new_tokens, .sampling = {}, .stop = {}})
      .tokens;
}

index_t first_other(const std::vector<Token>& a, const std::vector<Token>& b) {
  return static_cast<index_t>(std::ranges::mismatch(a, b).in1 - a.begin());
}

/// "12, 53, -, -": of every text the generated token that is the first to differ.
std::string divergence(const std::vector<std::vector<Token>>& found,
                       const std::vector<std::vector<Token>>& exact) {
  std::string text;
  for (index_t i = 0; i < found.size(); ++i) {
    const index_t same = first_other(found[i], exact[i]);
    text += (i ? ", " : "") + (same == exact[i].size() ? "-" : std::to_string(same + 1));
  }
  return text;
}

/// How many of the needles are found, which lie at depths from the beginning to the end.
index_t found_needles(const fs::path& model, const std::string& stage, index_t length) {
  const Subject subject(model);
  const Haystack haystack(subject.tokenizer, subject.tokenizer.encode_with_special(""),
                          text_of(model.parent_path() / "held_out/hay.txt"),
                          read_needle_task(Json::read(model / "needle.json")));
  Decoder decoder = subject.decoder(stage, 1, length);
  index_t found = 0;
  for (index_t i = 0; i < needles; ++i) {
    const double depth = 0.05 + 0.9 * static_cast<double>(i) / static_cast<double>(needles - 1);
    found += ask(decoder, haystack.text(length, depth, i)).is_right();
  }
  return found;
}

double bytes_per_token(const Subject& subject, const std::string& stage) {
  constexpr index_t tokens = 1024;  // and with it what does not grow with the text
  return static_cast<double>(subject.decoder(stage, 1, tokens).state_bytes().allocated) / tokens;
}

/// All that is measured of a model's cache in one format.
struct Outcome {
  std::string model, format;
  double bytes, bits;  // of a token; of a number, all bytes counted
  Differences differences;
  std::string divergence;
  index_t trained_needles, written_needles;

  bool is_exact() const { return format == "f32"; }
};

/// @param written a model whose weights are written down
std::vector<Outcome> outcomes(const fs::path& data, const std::string& model,
                              const std::string& written) {
  const Subject subject(data / model);
  const Predictions exact = predict(subject, stages.front());
  const auto exact_texts = greedy_texts(subject, stages.front());
  const double exact_bytes = bytes_per_token(subject, stages.front());
  std::vector<Outcome> result;
  for (const std::string& stage : stages) {
    const bool is_exact = stage == stages.front();
    const double bytes = bytes_per_token(subject, stage);
    result.push_back({.model = model,
                      .format = is_exact ? "f32" : stage,
                      .bytes = bytes,
                      .bits = 32 * bytes / exact_bytes,
                      .differences = differences(predict(subject, stage), exact),
                      .divergence = divergence(greedy_texts(subject, stage), exact_texts),
                      .trained_needles = found_needles(data / model, stage, 768),
                      .written_needles = found_needles(data / written, stage, 2048)});
  }
  return result;
}

std::string with_error(const Mean& mean, index_t places) {
  return decimal(mean.value, places) + " ± " + decimal(mean.standard_error, places);
}

std::string percent(double fraction, index_t places) {
  return decimal(100 * fraction, places) + "%";
}

MarkdownTable loss_table(const std::vector<Outcome>& all) {
  MarkdownTable table{{"model", "format", "bytes per token", "loss", "added",
                       "logit error, typical", "largest", "other first choice"}};
  for (const Outcome& each : all) {
    const Differences& found = each.differences;
    table.push_back({each.model, each.format, grouped(static_cast<index_t>(each.bytes)),
                     with_error(found.loss, 4)});
    if (each.is_exact())
      table.back().insert(table.back().end(), 4, "");
    else
      table.back().insert(table.back().end(),
                          {with_error(found.added_loss, 5), percent(found.typical_logit, 3),
                           percent(found.largest_logit, 2), percent(found.other_best, 2)});
  }
  return table;
}

MarkdownTable text_table(const std::vector<Outcome>& all) {
  MarkdownTable table{{"model", "format", "first other token of greedy text", "needles, trained",
                       "needles, written down"}};
  const std::string of = " of " + std::to_string(needles);
  for (const Outcome& each : all)
    table.push_back({each.model, each.format, each.is_exact() ? "" : each.divergence,
                     std::to_string(each.trained_needles) + of,
                     std::to_string(each.written_needles) + of});
  return table;
}

/// One value of some formats' outcomes over their bits: a curve for each model.
template <class Value>
void add_curves(Plot& plot, const std::vector<Outcome>& all,
                const std::vector<std::string>& in_order, Value value) {
  for (const std::string model : {"tiny-gqa", "tiny-mla"}) {
    Series curve{model, {}};
    for (const std::string& format : in_order)
      for (const Outcome& each : all)
        if (each.model == model && each.format == format) {
          curve.name += (curve.points.empty() ? ": " : ", ") + format;
          curve.points.push_back({each.bits, value(each.differences)});
        }
    plot.series.push_back(curve);
  }
}

/// Formats with few bits of precision and a wide range, and the others: curves that do not jump.
template <class Value>
Plot over_bits(const std::string& title, const std::string& label, Scale scale,
               const std::vector<Outcome>& all, Value value) {
  Plot plot{.title = title, .x_label = "bits for a number of a row, all bytes counted", .y_label = label, .series = {}, .y_scale = scale};
  add_curves(plot, all, {"fp8", "bf16"}, value);
  add_curves(plot, all, {"int4", "int8", "f16"}, value);
  return plot;
}

JsonObject numbers(const Outcome& each) {
  const Differences& found = each.differences;
  return JsonObject()
      .set("model", each.model)
      .set("format", each.format)
      .set("bytes_per_token", each.bytes)
      .set("loss", found.loss.value)
      .set("loss_standard_error", found.loss.standard_error)
      .set("added_loss", found.added_loss.value)
      .set("added_loss_standard_error", found.added_loss.standard_error)
      .set("typical_logit_error", found.typical_logit)
      .set("largest_logit_error", found.largest_logit)
      .set("other_first_choice", found.other_best)
      .set("needles", needles)
      .set("needles_found_trained", each.trained_needles)
      .set("needles_found_written_down", each.written_needles);
}

index_t count_predictions(const fs::path& model) {
  index_t count = 0;
  for (const std::vector<Token>& text : Subject(model).texts) count += text.size() - 1;
  return count;
}

}  // namespace

void measure_formats(const Laboratory& laboratory, Report& report) {
  const fs::path data = laboratory.checkpoint().directory().parent_path();
  std::vector<Outcome> all = outcomes(data, "tiny-gqa", "needle");
  std::ranges::copy(outcomes(data, "tiny-mla", "needle-mla"), std::back_inserter(all));

  const Report about = report.with_model(
      "tiny-gqa and tiny-mla, models of 2 to 4 million parameters, activations in f32");
  about.table("format_loss", loss_table(all),
              "Loss in nats per token on " + grouped(count_predictions(data / "tiny-gqa")) +
                  " tokens of held-out text, in windows of the model's context; ± is one standard "
                  "error. Added: the mean over the tokens of the difference to the f32 cache, with "
                  "its own standard error, which is smaller, because both predict the same tokens. "
                  "Logit errors are relative to the largest logit; typical: the root of the mean "
                  "square. Bytes of a cache for 1,024 tokens, over all layers.");
  about.table("format_texts", text_table(all),
              "The first token of greedy text that is another than with the f32 cache, for six "
              "beginnings of 100 tokens, of 400 new ones; -: none. Needles found in texts of 768 "
              "tokens by the trained model, and in texts of 2,048 tokens by data/needle and "
              "data/needle-mla, whose weights are written down.");
  about.figure("format_loss",
               over_bits("What a format adds to the loss", "nats per token", Scale::linear, all,
                         [](const Differences& found) { return found.added_loss.value; }));
  about.figure("format_logits",
               over_bits("The largest error of a logit", "of the largest logit", Scale::logarithmic,
                         all, [](const Differences& found) { return found.largest_logit; }));

  std::vector<JsonObject> rows;
  for (const Outcome& each : all) rows.push_back(numbers(each));
  report.numbers("formats", rows);
}

}  // namespace kv::book
