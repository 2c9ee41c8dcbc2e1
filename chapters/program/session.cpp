#include "chapters/program/session.hpp"

#include <unistd.h>

#include <algorithm>
#include <iostream>

#include "chapters/models/model_tensors.hpp"
#include "chapters/program/shipped.hpp"
#include "common/checkpoint/checkpoint_directory.hpp"
#include "common/files/error.hpp"
#include "common/tensor/fastest_format.hpp"
#include "common/tensor/parallel.hpp"
#include "common/text/table.hpp"

namespace kv {
namespace {

std::optional<Json> optional_file(const std::filesystem::path& file) {
  if (!std::filesystem::exists(file)) return std::nullopt;
  return Json::read(file);
}

std::string list_of_names(const std::vector<Stage>& stages) {
  std::string text = stages.size() == 1 ? "stage " : "stages ";
  for (const Stage& stage : stages) text += (&stage == &stages.front() ? "" : ", ") + std::string(stage.name);
  return text;
}

std::string megabytes(std::size_t bytes) { return grouped(bytes / 1000000) + " MB"; }

std::size_t memory_of_this_machine() {
  return static_cast<std::size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

/// What one sequence asks for is no more than addresses until it is written: before a batch is made of it, it is multiplied out.
void require_memory(const StateBytes& of_one, const Limits& limits) {
  const std::size_t memory = memory_of_this_machine();
  if (of_one.allocated <= memory / limits.sequences) return;
  throw Error((limits.sequences == 1 ? "a sequence of " : grouped(limits.sequences) + " sequences of ") + grouped(limits.capacity) +
              " tokens would need " + grouped(of_one.allocated) + " bytes" + (limits.sequences == 1 ? "" : " each") +
              " to be remembered; this machine has " + grouped(memory) + ": a smaller context or batch is needed");
}

}  // namespace

std::filesystem::path shipped_gqa() { return shipped("tiny-gqa"); }
std::filesystem::path shipped_mla() { return shipped("tiny-mla"); }

std::filesystem::path model_directory(const Arguments& arguments) {
  return checkpoint_directory(arguments.has("--model") ? std::filesystem::path(arguments.text("--model")) : shipped_gqa());
}

Checkpoint open_checkpoint(const Arguments& arguments) { return Checkpoint(model_directory(arguments)); }

std::optional<Checkpoint> weights_of(const std::filesystem::path& directory) {
  if (std::filesystem::exists(directory / "model.safetensors") ||
      std::filesystem::exists(directory / "model.safetensors.index.json"))
    return Checkpoint(directory);
  return std::nullopt;
}

Tokenizer open_tokenizer(const std::filesystem::path& directory) { return Tokenizer(directory / "tokenizer.json"); }

std::vector<Token> encode_prompt(const std::filesystem::path& directory, const Tokenizer& tokenizer, std::string_view text) {
  std::vector<Token> tokens = tokenizer.encode_with_special(text);
  const std::optional<Json> config = optional_file(directory / "tokenizer_config.json");
  if (!config || !config->has("add_bos_token") || !config->at("add_bos_token").flag()) return tokens;
  // Published DeepSeek tokenizers add the token here and not in tokenizer.json; others say it in both places.
  const Json bos = config->at("bos_token");
  const std::string bos_text = bos.is_text() ? bos.text() : bos.at("content").text();
  const std::optional<Token> id = tokenizer.find(bos_text);
  if (!id) throw Error(bos.where() + " is '" + bos_text + "', which tokenizer.json does not have");
  if (tokens.empty() || tokens.front() != *id) tokens.insert(tokens.begin(), *id);
  return tokens;
}

namespace {

/// Whether the command line says that tokens are drawn at random, or that they are not.
std::optional<bool> sampled(const Arguments& arguments) {
  if (arguments.has("--temperature")) return arguments.number_or("--temperature", 0.0) != 0.0;
  if (arguments.has("--top-k") || arguments.has("--top-p")) return true;
  return std::nullopt;
}

Sampling sampling(const GenerationConfig& config, const Arguments& arguments) {
  Sampling result{.temperature = 0.0};
  if (config.sample) result = {.temperature = config.temperature, .top_k = config.top_k, .top_p = config.top_p, .min_p = config.min_p};
  result.temperature = arguments.number_or("--temperature", result.temperature);
  result.top_k = arguments.size_or("--top-k", result.top_k);
  result.top_p = arguments.number_or("--top-p", result.top_p);
  result.seed = arguments.size_or("--seed", 0);
  try {
    Sampler{result};  // checks the ranges before a model is loaded or a word printed
  } catch (const Error& error) {
    throw UsageError(error.what());
  }
  return result;
}

}  // namespace

GenerateOptions generate_options(const Checkpoint& checkpoint, const Arguments& arguments, index_t max_new_tokens) {
  const GenerationConfig config = read_generation_config(checkpoint.directory(), sampled(arguments));
  return {.max_new_tokens = arguments.size_or("--max-new-tokens", max_new_tokens, 1),
          .rules = config.rules,
          .sampling = sampling(config, arguments),
          .stop = config.stop};
}

const std::vector<Option>& stage_options() {
  static std::vector<std::string> names;  // a command's options only look at their names
  static const std::vector<Option> all = [] {
    std::vector<StageOption> distinct;
    for (const Stage& stage : stages())
      for (const StageOption& option : stage.options)
        if (std::ranges::find(distinct, option.name, &StageOption::name) == distinct.end()) distinct.push_back(option);
    for (const StageOption& option : distinct) names.push_back("--" + std::string(option.name));
    std::vector<Option> options;
    for (index_t i = 0; i < names.size(); ++i) options.push_back({names[i], distinct[i].letter, distinct[i].help});
    options.push_back(inputs_option);
    return options;
  }();
  return all;
}

namespace {

/// Gives the stages what was given for them.
void set_options(std::vector<Stage>& stages, const Arguments& arguments) {
  for (const Option& option : stage_options()) {
    if (!arguments.has(option.name) || option.name == inputs_option.name) continue;
    const std::string_view name = option.name.substr(2);
    bool taken = false;
    for (Stage& stage : stages)
      if (stage.options.has(name)) {
        stage.options.set(name, arguments.text(option.name));
        taken = true;
      }
    if (!taken) throw UsageError(std::string(option.name) + " is no option of " + list_of_names(stages));
  }
}

/// Why a stage cannot have the inputs that are in use, or nothing.
std::string_view objection(const Stage& stage) {
  if (input_format() != InputFormat::f32 && stage.linear_inputs == LinearInputs::on_device) return "has products of its own, on a GPU";
  if (integers(input_format()) && stage.linear_inputs == LinearInputs::parts)
    return "cuts rows of inputs into parts, and a scale belongs to a whole row";
  return {};
}

constexpr std::string_view fastest = "fastest";

/// Whether a format goes with a model: with some matrix in i8, or with all.
bool go_together(InputFormat inputs, const std::vector<MatrixView>& matrices) {
  const auto goes = [=](const MatrixView& matrix) { return goes_with(inputs, matrix.type); };
  return integers(inputs) ? std::ranges::any_of(matrices, goes) : std::ranges::all_of(matrices, goes);
}

/// f32 where nothing else goes with the weights.
void apply_fastest_inputs(const Checkpoint& checkpoint) {
  const std::vector<MatrixView> matrices = multiplied(model_tensors(checkpoint));
  const bool in_i8 = go_together(InputFormat::int8, matrices), choice = in_i8 || go_together(InputFormat::bf16, matrices);
  use_input_format(choice ? fastest_input_format(in_i8 ? DType::i8 : DType::bf16) : InputFormat::f32);
  std::cerr << "inputs: " << name(input_format()) << (choice ? ", the fastest here" : ", as no other format goes with these weights") << std::endl;
}

/// A layer leaves it to the others when it does not go with integers: a model in which all do is refused here.
void require_integers(const Checkpoint& checkpoint) {
  const std::vector<MatrixView> matrices = multiplied(model_tensors(checkpoint));
  if (!go_together(input_format(), matrices)) refuse(input_format(), matrices[0].type, matrices[0].where);
}

/// --inputs
void set_inputs(const Arguments& arguments) {
  const std::string wanted = arguments.text_or(inputs_option.name, name(InputFormat::f32));
  wanted == fastest ? apply_fastest_inputs(open_checkpoint(arguments)) : apply_inputs(wanted);
  if (integers(input_format())) require_integers(open_checkpoint(arguments));
}

void require_inputs(const std::vector<Stage>& stages) {
  for (const Stage& stage : stages)
    if (const std::string_view why = objection(stage); !why.empty())
      throw UsageError("--inputs " + std::string(name(input_format())) + ": stage " + std::string(stage.name) + " " + std::string(why));
}

}  // namespace

Stage chosen_stage(const Arguments& arguments, std::string_view fallback) {
  std::vector<Stage> one{find_stage(arguments.text_or("--stage", fallback))};
  set_options(one, arguments);
  set_inputs(arguments);
  require_inputs(one);
  return one.front();
}

std::vector<Stage> chosen_stages(const Arguments& arguments, std::vector<Stage> fallback) {
  std::vector<Stage> chosen = std::move(fallback);
  set_inputs(arguments);
  if (arguments.has("--stages")) {
    chosen.clear();
    for (const std::string& name : arguments.list("--stages")) chosen.push_back(find_stage(name));
  } else {
    std::erase_if(chosen, [](const Stage& stage) { return !objection(stage).empty(); });
  }
  set_options(chosen, arguments);
  require_inputs(chosen);
  return chosen;
}

void apply_inputs(std::string_view wanted) {
  std::string known;
  for (const InputFormat format : input_formats()) {
    if (name(format) == wanted) return use_input_format(format);
    known += (known.empty() ? "" : ", ") + std::string(name(format));
  }
  throw UsageError("--inputs " + std::string(wanted) + " is not known; there are " + known);
}

void apply_threads(const Arguments& arguments) {
  if (arguments.has("--threads")) set_threads(arguments.size_or("--threads", 1, 1));
}

index_t require_context(const Checkpoint& checkpoint, const Stage& stage, index_t tokens) {
  const index_t context = model_sizes(checkpoint.config()).context;
  if (stage.reach == Reach::beyond_made || tokens <= context) return tokens;
  throw Error(std::to_string(tokens) + " tokens do not fit the model's context of " + std::to_string(context) +
              " (max_position_embeddings): shorten the prompt or ask for fewer new tokens");
}

Decoder load_decoder(const Checkpoint& checkpoint, const Stage& stage, const Limits& limits) {
  const std::string loading = "loading " + checkpoint.directory().string() + ": ", of_all = " of " + megabytes(checkpoint.bytes());
  show_progress(loading + "0" + of_all);
  checkpoint.on_packed([=, packed = std::size_t{0}](std::size_t bytes) mutable {
    show_progress(loading + megabytes(packed += bytes) + of_all);
  });
  // Layers share weights with those of another decoder. A table of pages would count the layers of both.
  const bool of_layers = std::holds_alternative<MakeLayers>(stage.make) && !stage.make_on_pages;
  Decoder decoder = make_decoder(checkpoint, stage, of_layers ? Limits{.sequences = 1, .capacity = limits.capacity} : limits);
  if (of_layers) require_memory(decoder.state_bytes(), limits);
  if (of_layers && limits.sequences > 1) decoder = make_decoder(checkpoint, stage, limits);
  checkpoint.on_packed({});  // experts are packed when they are first chosen
  clear_progress();
  return decoder;
}

void show_progress(std::string_view text) {
  if (isatty(STDERR_FILENO)) std::cerr << "\r\033[K" << text << std::flush;
}

void clear_progress() {
  if (isatty(STDERR_FILENO)) std::cerr << "\r\033[K" << std::flush;
}

}  // namespace kv
