#include <iostream>
#include <random>

#include "chapters/program/session.hpp"
#include "common/files/error.hpp"
#include "common/tensor/parallel.hpp"
#include "common/tensor/input_format.hpp"
#include "common/tensor/simd/instruction_set.hpp"
#include "common/text/table.hpp"

namespace kv {
namespace {

/// Fed before anything is timed: enough that nearly every expert has been chosen, and so loaded.
constexpr index_t warm_up_tokens = 512;

/// Prompts of random tokens: the cost does not depend on what is said.
std::vector<NewTokens> random_prompts(index_t batch, index_t length, index_t vocabulary) {
  std::mt19937_64 random(1);
  std::vector<NewTokens> prompts(batch);
  for (index_t b = 0; b < batch; ++b) {
    prompts[b].sequence = b;
    for (index_t t = 0; t < length; ++t) prompts[b].tokens.push_back(static_cast<Token>(random() % vocabulary));
  }
  return prompts;
}

/// Another instruction set than the widest one: what the processor's best is worth. The results have the same bits.
void apply_instructions(const Arguments& arguments) {
  if (!arguments.has("--instructions")) return;
  const std::string wanted = arguments.text("--instructions");
  std::string known;
  for (const InstructionSet set : available_instruction_sets()) {
    if (name(set) == wanted) return use_instruction_set(set);
    known += (known.empty() ? "" : ", ") + std::string(name(set));
  }
  throw UsageError("--instructions " + wanted + ": this processor and this build have " + known);
}

void run(const Arguments& arguments) {
  const Stage stage = chosen_stage(arguments, "preallocated");
  apply_threads(arguments);
  apply_instructions(arguments);
  const index_t prompt_tokens = arguments.size_or("--prompt-tokens", 128, 1);
  const index_t new_tokens = arguments.size_or("--new-tokens", 32, 1);
  const index_t batch = arguments.size_or("--batch", 1, 1);
  const index_t context = arguments.size_or("--context", 0);
  const Checkpoint checkpoint = open_checkpoint(arguments);
  const index_t capacity = context + prompt_tokens + new_tokens - 1;  // past the trained context too: speed does not care
  Decoder decoder = load_decoder(checkpoint, stage, {.sequences = batch, .capacity = capacity});
  // Untimed: brings weights into memory that are loaded when they are first needed, and fills the context.
  const std::vector<NewTokens> prompts = random_prompts(batch, std::max(context, prompt_tokens), decoder.vocabulary());
  const index_t length = prompts[0].tokens.size(), warm_ups = std::min<index_t>(16, warm_up_tokens / length);
  for (const NewTokens& part : random_prompts(warm_ups, length, decoder.vocabulary())) {
    decoder.truncate(0, 0);
    decoder.last_logits({{0, part.tokens}});
  }
  decoder.truncate(0, 0);
  for (const NewTokens& part : prompts) {
    decoder.last_logits({part});
    decoder.truncate(part.sequence, context);
  }
  // No stop tokens: every sequence runs to its end.
  const Generation generation = generate(decoder, random_prompts(batch, prompt_tokens, decoder.vocabulary()),
                                         {.max_new_tokens = new_tokens, .sampling = {}, .stop = {}});
  const Metrics& metrics = generation.metrics;
  if (arguments.has("--json")) {
    JsonObject object;
    object.set("stage", stage.name).set("model", checkpoint.directory().string()).set("threads", threads());
    object.set("instructions", name(instruction_set())).set("inputs", name(input_format())).set("context", context);
    metrics.write(object);
    std::cout << object.text() << "\n";
    return;
  }
  std::cout << stage.name << " on " << checkpoint.directory().string() << ", batch " << batch << ", " << threads()
            << " threads\n"
            << "prefill: " << metrics.prompt_tokens << " tokens, TTFT " << decimal(metrics.ttft_ms(), 2) << " ms, "
            << decimal(metrics.prefill_tokens_per_s(), 0) << " tokens/s\n"
            << "decode:  " << metrics.new_tokens << " tokens, TPOT " << decimal(metrics.tpot_ms(), 3) << " ms, "
            << decimal(metrics.decode_tokens_per_s(), 0) << " tokens/s\n"
            << "state:   " << grouped(metrics.state_bytes.allocated) << " bytes, " << decimal(metrics.state_bytes_per_token(), 0)
            << " bytes/token\n"
            << "peak memory: " << grouped(peak_rss_bytes()) << " bytes\n";
}

}  // namespace

const Command bench_command{"bench",
                            "speed and memory of one stage: TTFT, TPOT, tokens/s, bytes",
                            {model_option, stage_option,
                             {"--prompt-tokens", "P", "tokens prefilled for each sequence (default 128)"},
                             {"--context", "C", "tokens that each sequence holds before, untimed (default 0)"},
                             {"--new-tokens", "N", "new tokens for each sequence (default 32)"},
                             {"--batch", "B", "sequences (default 1)"},
                             {"--instructions", "SET", "portable, avx2, avx512, avx512-vnni, avx512-bf16 or amx (default: the widest there is; equal bits)"},
                             threads_option, json_option},
                            run};

}  // namespace kv
