#include <unistd.h>

#include <cstdlib>

#include "common/text/table.hpp"
#include "common/model/loss.hpp"
#include "chapters/studies/round_weights.hpp"
#include "common/files/error.hpp"
#include "common/text/tokenizer.hpp"
#include "docs/measure/measurements.hpp"

namespace kv::book {
namespace {

namespace fs = std::filesystem;

const std::vector<std::string> kinds{"story", "chat", "needle", "list", "copy"};

/// Gone with all it holds at the end.
class WorkingDirectory {
 public:
  WorkingDirectory() {
    std::string pattern = (fs::temp_directory_path() / "kvbook-measure-XXXXXX").string();
    if (!::mkdtemp(pattern.data())) throw Error(pattern + ": cannot be created");
    path_ = pattern;
  }
  ~WorkingDirectory() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  WorkingDirectory(const WorkingDirectory&) = delete;
  WorkingDirectory& operator=(const WorkingDirectory&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

/// Losses of all kinds of held-out text.
std::vector<Loss> losses(const Checkpoint& checkpoint, const fs::path& data) {
  const Tokenizer tokenizer(checkpoint.directory() / "tokenizer.json");
  const index_t window = model_sizes(checkpoint.config()).context;
  Decoder decoder = make_decoder(checkpoint, find_stage("preallocated"), {.sequences = 1, .capacity = window});
  std::vector<Loss> result;
  for (const std::string& kind : kinds)
    result.push_back(text_loss(decoder, tokenizer.encode_with_special(text_of(data / "held_out" / (kind + ".txt"))), window));
  return result;
}

}  // namespace

void measure_int8(const Laboratory& laboratory, Report& report) {
  const fs::path data = laboratory.checkpoint().directory().parent_path();
  const WorkingDirectory directory;
  MarkdownTable table{{"model", "linear weights", "bytes of weights", "story", "chat", "needle", "list", "copy", "all", "perplexity"}};
  std::vector<JsonObject> rows;
  for (const std::string model : {"tiny-gqa", "tiny-mla"}) {
    const fs::path int8 = directory.path() / model;
    quantise(Checkpoint(data / model), int8);
    for (const auto& [weights, folder] : {std::pair{"bf16", data / model}, std::pair{"int8", int8}}) {
      const Checkpoint checkpoint(folder);
      std::vector<std::string> cells{model, weights, grouped(checkpoint.bytes())};
      JsonObject row, by_kind;
      Loss all;
      const std::vector<Loss> found = losses(checkpoint, data);
      for (index_t i = 0; i < kinds.size(); ++i) {
        cells.push_back(decimal(found[i].mean(), 4));
        by_kind.set(kinds[i], found[i].mean());
        all += found[i];
      }
      cells.insert(cells.end(), {decimal(all.mean(), 4), decimal(all.perplexity(), 4)});
      table.push_back(cells);
      rows.push_back(row.set("model", model).set("weights", weights).set("weight_bytes", checkpoint.bytes()).set("predictions", all.predictions)
                         .set("losses", by_kind).set("loss", all.mean()).set("perplexity", all.perplexity()));
    }
  }
  report.with_model("tiny-gqa and tiny-mla, stage preallocated, activations and cache in f32")
      .table("int8_perplexity", table,
             "Loss in nats per token on held-out text, each kind about a thousand tokens and never seen in training; the perplexity is e to the loss of all. In "
             "int8: the projections of attention and feed-forward halves and tiny-mla's output matrix, one scale per output. Embeddings (in tiny-gqa the output matrix too), gates and kv_b_proj stay in bf16.");
  report.numbers("int8_perplexity", rows);
}

}  // namespace kv::book
