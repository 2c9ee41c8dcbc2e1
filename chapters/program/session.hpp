#pragma once
/// @file
/// What every command that runs a model needs: the checkpoint, its tokenizer, its defaults.
#include <optional>

#include "chapters/decoders.hpp"
#include "chapters/program/command.hpp"
#include "common/checkpoint/checkpoint.hpp"
#include "common/model/generate.hpp"
#include "common/text/tokenizer.hpp"

namespace kv {

/// Options that several commands share.
inline constexpr Option model_option{"--model", "DIR", "Hugging Face checkpoint directory"};
inline constexpr Option stage_option{"--stage", "S", "stage, by name or chapter number (kvbook stages)"};
inline constexpr Option threads_option{"--threads", "T", "threads (default: one for each core)"};
inline constexpr Option inputs_option{"--inputs", "FORMAT", "inputs of linear layers: f32, or with weights in bf16 bf16x3 (exact), bf16 or bf16-tiles (rounded), in i8 int8 or int8x2 (rounded); fastest tries them"};
inline constexpr Option json_option{"--json", "", "print one JSON object"};
inline constexpr Option temperature_option{"--temperature", "T", "0: greedy (default: the checkpoint's)"};
inline constexpr Option top_p_option{"--top-p", "P", "keep the most likely tokens that reach probability P"};
inline constexpr Option top_k_option{"--top-k", "K", "keep the K most likely tokens; 0: all (default: the checkpoint's, or 50)"};
inline constexpr Option seed_option{"--seed", "N", "seed of the random draws (default 0)"};

/// The models that ship with the book: one whose heads keep keys and values, one that keeps latents.
std::filesystem::path shipped_gqa();
std::filesystem::path shipped_mla();

/// The beginning of a story that the shipped models can tell.
inline constexpr std::string_view shipped_prompt = "Once upon a time, there was a fox named Tom.";

/// --model, or the smaller of the shipped models.
std::filesystem::path model_directory(const Arguments& arguments);
Checkpoint open_checkpoint(const Arguments& arguments);
/// A directory needs no weights to have one.
Tokenizer open_tokenizer(const std::filesystem::path& directory);

/// Weights may be absent where config.json alone will do.
std::optional<Checkpoint> weights_of(const std::filesystem::path& directory);

/// The prompt's token ids, with the begin-of-text token where the tokenizer or tokenizer_config.json asks for one.
std::vector<Token> encode_prompt(const std::filesystem::path& directory, const Tokenizer& tokenizer, std::string_view text);

/// The checkpoint's generation_config.json, overridden by what was given.
/// @param max_new_tokens unless --max-new-tokens says otherwise
GenerateOptions generate_options(const Checkpoint& checkpoint, const Arguments& arguments, index_t max_new_tokens);

/// The options of all stages, as --budget, each once; and --inputs.
const std::vector<Option>& stage_options();
/// --stage with the options that were given.
/// @throws UsageError for a stage that is not known, or an option that it does not have
Stage chosen_stage(const Arguments& arguments, std::string_view fallback);
/// --stages likewise, or these; every option that was given must belong to one of them.
std::vector<Stage> chosen_stages(const Arguments& arguments, std::vector<Stage> fallback);

/// --inputs, for all layers of this process.  @throws UsageError when it is not known
void apply_inputs(std::string_view wanted);

/// --threads
void apply_threads(const Arguments& arguments);

/// The tokens that were asked for.
/// @throws Error when the checkpoint's context has fewer positions, and the stage needs one for each token
index_t require_context(const Checkpoint& checkpoint, const Stage& stage, index_t tokens);

/// make_decoder, with a line on a terminal while the weights are packed.
Decoder load_decoder(const Checkpoint& checkpoint, const Stage& stage, const Limits& limits);

/// A line on standard error that replaces itself; silent unless standard error is a terminal.
void show_progress(std::string_view text);
void clear_progress();

}  // namespace kv
