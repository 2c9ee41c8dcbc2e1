#include <charconv>
#include <iostream>

#include "chapters/program/session.hpp"
#include "chapters/program/shipped.hpp"
#include "chapters/studies/heat_map.hpp"
#include "chapters/studies/needle.hpp"
#include "common/files/error.hpp"
#include "common/files/text_file.hpp"
#include "common/model/metrics.hpp"
#include "common/tensor/parallel.hpp"
#include "common/text/table.hpp"

namespace kv {
namespace {

/// What is tried: every stage at every length and depth.
struct Grid {
  std::vector<Stage> stages;
  std::vector<index_t> lengths;
  std::vector<std::string> depths;  // percent, as they were given
  index_t trials;
};

/// What came out of one place of it.
struct Cell {
  std::vector<NeedleAnswer> answers;

  index_t found() const {
    return static_cast<index_t>(std::ranges::count_if(answers, &NeedleAnswer::is_right));
  }
  double share() const {
    return static_cast<double>(found()) / static_cast<double>(answers.size());
  }
};

/// The cells of one stage and length, one for each depth.
struct Line {
  const Stage* stage;
  index_t length;
  std::vector<Cell> cells;
  StateBytes state_bytes;

  double seconds() const {
    std::vector<double> all;
    for (const Cell& cell : cells)
      for (const NeedleAnswer& answer : cell.answers) all.push_back(answer.seconds);
    return median(all);
  }
};

// ---- what was asked for ----

double fraction(const std::string& percent) {
  double value = 0;
  const auto [end, error] = std::from_chars(percent.data(), percent.data() + percent.size(), value);
  if (error != std::errc() || end != percent.data() + percent.size() ||
      !(value >= 0 && value <= 100))
    throw UsageError("--depths needs numbers from 0 to 100, percent of the text, not '" + percent +
                     "'");
  return value / 100;
}

std::vector<index_t> lengths(const Arguments& arguments, const Checkpoint& checkpoint) {
  std::vector<index_t> result;
  if (arguments.has("--lengths")) {
    for (const std::string& word : arguments.list("--lengths"))
      result.push_back(parse_size(word, "--lengths"));
    return result;
  }
  const index_t context = model_sizes(checkpoint.config()).context;
  for (index_t length = 128; length <= std::min<index_t>(context, 1024); length *= 2)
    result.push_back(length);
  return result;
}

/// Everything that can be wrong is found before an hour is spent on the first length.
Grid read_grid(const Arguments& arguments, const Checkpoint& checkpoint, const Haystack& haystack) {
  Grid grid{.stages = chosen_stages(arguments, {find_stage("preallocated")}),
            .lengths = lengths(arguments, checkpoint),
            .depths = split(arguments.text_or("--depths", "0,25,50,75,100")),
            .trials = arguments.size_or("--trials", 1, 1)};
  for (const std::string& depth : grid.depths) fraction(depth);
  for (const Stage& stage : grid.stages) {
    make_decoder(checkpoint, stage, {.sequences = 1, .capacity = 1});
    for (const index_t length : grid.lengths) require_context(checkpoint, stage, length);
  }
  for (const index_t length : grid.lengths) haystack.text(length, 0, 0);
  return grid;
}

Json task_file(const Checkpoint& checkpoint, const Arguments& arguments) {
  const std::filesystem::path beside = checkpoint.directory() / "needle.json";
  if (!arguments.has("--task") && !std::filesystem::exists(beside))
    throw Error(beside.string() +
                ": is not there; it says in which words the model is told a fact and asked for it: "
                "write it, or give --task");
  return Json::read(arguments.has("--task") ? std::filesystem::path(arguments.text("--task"))
                                            : beside);
}

Haystack read_haystack(const Checkpoint& checkpoint, const Tokenizer& tokenizer,
                       const Arguments& arguments) {
  const std::filesystem::path hay =
      arguments.text_or("--hay", shipped("held_out/hay.txt").string());
  return Haystack(tokenizer, encode_prompt(checkpoint.directory(), tokenizer, ""), read_text(hay),
                  read_needle_task(task_file(checkpoint, arguments)));
}

// ---- the work ----

Cell run_cell(Decoder& decoder, const Haystack& haystack, index_t length, const std::string& depth,
              index_t trials, const std::string& progress) {
  Cell cell;
  for (index_t trial = 0; trial < trials; ++trial)
    cell.answers.push_back(
        ask(decoder, haystack.text(length, fraction(depth), trial), [&](index_t fed) {
          show_progress(progress + ", needle " + std::to_string(trial + 1) + " of " +
                        std::to_string(trials) + ": " + grouped(fed) + " tokens read");
        }));
  return cell;
}

std::vector<Line> run_grid(const Checkpoint& checkpoint, const Haystack& haystack,
                           const Grid& grid) {
  std::vector<Line> lines;
  for (const Stage& stage : grid.stages) {
    Decoder decoder = load_decoder(checkpoint, stage,
                                   {.sequences = 1, .capacity = std::ranges::max(grid.lengths)});
    for (const index_t length : grid.lengths) {
      lines.push_back({&stage, length, {}, {}});
      for (const std::string& depth : grid.depths)
        lines.back().cells.push_back(run_cell(
            decoder, haystack, length, depth, grid.trials,
            std::string(stage.name) + ", " + grouped(length) + " tokens, depth " + depth + "%"));
      lines.back().state_bytes = decoder.state_bytes();
    }
  }
  clear_progress();
  return lines;
}

// ---- what came out ----

void print_table(const Grid& grid, const std::vector<Line>& lines) {
  std::vector<std::string> head{"stage", "tokens"};
  for (const std::string& depth : grid.depths) head.push_back(depth + "%");
  head.insert(head.end(), {"state, bytes", "s"});
  Table table(head);
  for (const Line& line : lines) {
    std::vector<std::string> row{std::string(line.stage->name), grouped(line.length)};
    for (const Cell& cell : line.cells)
      row.push_back(std::to_string(cell.found()) + "/" + std::to_string(cell.answers.size()));
    row.insert(row.end(), {grouped(line.state_bytes.used), decimal(line.seconds(), 2)});
    table.add(row);
  }
  std::cout << table.text()
            << "\nfound of asked for, by the needle's depth in the text; state: what is remembered "
               "of it; s: seconds for one, median\n";
  for (const Stage& stage : grid.stages) {
    const auto line = std::ranges::find(lines, &stage, &Line::stage);
    if (line->state_bytes.used == 0)
      std::cout << stage.name
                << " was asked for the first token of each answer: it would read all again for the "
                   "others\n";
    for (const StageOption& option : stage.options)
      std::cout << stage.name << ": " << option.name << " "
                << grouped(static_cast<index_t>(option.value)) << "\n";
  }
}

JsonObject json(const Line& line, const std::string& depth, const Cell& cell) {
  JsonObject options;
  for (const StageOption& option : line.stage->options) options.set(option.name, option.value);
  std::vector<double> seconds;
  for (const NeedleAnswer& answer : cell.answers) seconds.push_back(answer.seconds);
  return JsonObject()
      .set("stage", line.stage->name)
      .set("options", options)
      .set("tokens", line.length)
      .set("depth", fraction(depth))
      .set("trials", cell.answers.size())
      .set("found", cell.found())
      .set("answer_tokens_asked", cell.answers.front().asked)
      .set("seconds", median(seconds))
      .set("state_bytes", line.state_bytes.used);
}

void print_json(const Checkpoint& checkpoint, const Grid& grid, const std::vector<Line>& lines) {
  std::vector<JsonObject> cells;
  for (const Line& line : lines)
    for (index_t i = 0; i < line.cells.size(); ++i)
      cells.push_back(json(line, grid.depths[i], line.cells[i]));
  std::cout << JsonObject()
                   .set("model", checkpoint.directory().string())
                   .set("threads", threads())
                   .set("peak_rss_bytes", peak_rss_bytes())
                   .set("cells", cells)
                   .text()
            << "\n";
}

HeatMap heat_map(const Checkpoint& checkpoint, const Grid& grid, const std::vector<Line>& lines) {
  HeatMap map{.title = "needles found, " + checkpoint.directory().filename().string(),
              .column_label = "depth of the needle in the text",
              .row_names = {},
              .cells = {},
              .least = 0,
              .most = 1,
              .unit = "of the needles"};
  for (const std::string& depth : grid.depths) map.column_names.push_back(depth + "%");
  for (const Line& line : lines) {
    map.row_names.push_back(std::string(line.stage->name) + ", " + grouped(line.length));
    map.cells.emplace_back();
    for (const Cell& cell : line.cells) map.cells.back().push_back(cell.share());
  }
  return map;
}

void run(const Arguments& arguments) {
  apply_threads(arguments);
  const Checkpoint checkpoint = open_checkpoint(arguments);
  const Tokenizer tokenizer = open_tokenizer(checkpoint.directory());
  const Haystack haystack = read_haystack(checkpoint, tokenizer, arguments);
  const Grid grid = read_grid(arguments, checkpoint, haystack);
  const std::vector<Line> lines = run_grid(checkpoint, haystack, grid);
  if (arguments.has("--json"))
    print_json(checkpoint, grid, lines);
  else
    print_table(grid, lines);
  if (arguments.has("--svg")) write_svg(arguments.text("--svg"), heat_map(checkpoint, grid, lines));
}

}  // namespace

const Command needle_command{
    "needle",
    "is a fact found again, by depth and length of the text",
    {model_option,
     {"--stages", "A,B,...", "stages by name or chapter (default: preallocated)"},
     {"--lengths", "N,...",
      "tokens of a text, question and answer included (default: 128 to 1024)"},
     {"--depths", "P,...", "where the needle is, percent of the text (default: 0,25,50,75,100)"},
     {"--trials", "N", "needles for each length and depth (default 1)"},
     {"--task", "FILE",
      "JSON: needle, question, answer, {} for the value (default: DIR/needle.json)"},
     {"--hay", "FILE", "plain text around the needle (default: stories)"},
     {"--svg", "FILE", "write a heat map"},
     threads_option,
     json_option},
    run};

}  // namespace kv
