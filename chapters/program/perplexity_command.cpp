#include "common/model/loss.hpp"

#include <iostream>

#include "chapters/program/session.hpp"
#include "common/files/error.hpp"
#include "common/files/text_file.hpp"
#include "common/tensor/parallel.hpp"
#include "common/text/table.hpp"

namespace kv {
namespace {

/// One file and how well it was predicted.
struct Text {
  std::string file;
  std::vector<Token> tokens;
  Loss loss;
};

/// All files are read before anything is computed: a wrong name should not be found out after an hour.
std::vector<Text> read_texts(const Checkpoint& checkpoint, const std::vector<std::string>& files) {
  const Tokenizer tokenizer = open_tokenizer(checkpoint.directory());
  std::vector<Text> texts;
  for (const std::string& file : files) {
    texts.push_back({file, encode_prompt(checkpoint.directory(), tokenizer, read_text(file)), {}});
    if (texts.back().tokens.size() < 2) throw Error(file + ": has fewer than two tokens, so there is nothing to predict");
  }
  return texts;
}

/// At most the model's context.
index_t window_size(const Checkpoint& checkpoint, const Arguments& arguments) {
  const index_t context = model_sizes(checkpoint.config()).context;
  const index_t window = arguments.size_or("--window", context, 2);
  if (window > context)
    throw Error("a window of " + std::to_string(window) + " tokens does not fit the model's context of " + std::to_string(context) +
                " (max_position_embeddings); give a smaller --window");
  return window;
}

void print_json(const std::string& model, const Stage& stage, index_t window, const std::vector<Text>& texts, const Loss& total) {
  std::vector<JsonObject> files;
  for (const Text& text : texts)
    files.push_back(JsonObject()
                        .set("file", text.file)
                        .set("tokens", text.tokens.size())
                        .set("predictions", text.loss.predictions)
                        .set("loss", text.loss.mean())
                        .set("perplexity", text.loss.perplexity()));
  std::cout << JsonObject()
                   .set("stage", stage.name)
                   .set("model", model)
                   .set("window", window)
                   .set("threads", threads())
                   .set("predictions", total.predictions)
                   .set("loss", total.mean())
                   .set("perplexity", total.perplexity())
                   .set("files", files)
                   .text()
            << "\n";
}

void run(const Arguments& arguments) {
  const Stage stage = chosen_stage(arguments, "preallocated");
  apply_threads(arguments);
  const std::vector<std::string> files = arguments.list("--file");
  const Checkpoint checkpoint = open_checkpoint(arguments);
  const index_t window = window_size(checkpoint, arguments);
  std::vector<Text> texts = read_texts(checkpoint, files);
  index_t longest = 0;
  for (const Text& text : texts) longest = std::max(longest, text.tokens.size());

  Decoder decoder = load_decoder(checkpoint, stage, {.sequences = 1, .capacity = std::min(window, longest) - 1});
  Loss total;
  for (Text& text : texts) {
    text.loss = text_loss(decoder, text.tokens, window, [&](index_t count) {
      show_progress(text.file + ": token " + std::to_string(count) + " of " + std::to_string(text.tokens.size()));
    });
    total += text.loss;
  }
  clear_progress();
  if (arguments.has("--json")) return print_json(checkpoint.directory().string(), stage, window, texts, total);

  Table table({"file", "tokens predicted", "nats per token", "perplexity"});
  const auto add = [&](const std::string& name, const Loss& loss) {
    table.add({name, grouped(loss.predictions), decimal(loss.mean(), 4), decimal(loss.perplexity(), 4)});
  };
  for (const Text& text : texts) add(text.file, text.loss);
  if (texts.size() > 1) add("all", total);
  std::cout << table.text();
}

}  // namespace

const Command perplexity_command{"perplexity",
                                 "how well a model predicts text files: e to the mean loss per token",
                                 {model_option, stage_option,
                                  {"--file", "A,B,...", "text files; the first token of each is not predicted"},
                                  {"--window", "N", "cut texts into windows of N tokens that share one (default: the context)"},
                                  threads_option, json_option},
                                 run};

}  // namespace kv
