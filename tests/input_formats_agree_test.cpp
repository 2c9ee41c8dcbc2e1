// Whole models with inputs of layers in another format than f32. exact: one stage next to itself, whatever the chunks, the
// batch, the threads and the instruction set; and all exact stages next to each other.
#include "chapters/studies/round_weights.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/decoders.hpp"
#include "tests/support/equality.hpp"
#include "tests/support/input_formats.hpp"
#include "tests/support/instruction_sets.hpp"
#include "tests/support/model_oracle.hpp"
#include "tests/support/random.hpp"

using namespace kv;
using namespace kv::test;

namespace {

/// Models of every family whose weights are in bf16; in i8 where integers are in use.
void on_every_model(const std::function<void(const Checkpoint&)>& check) {
  const SmallCheckpoint small({.type = DType::bf16, .seed = 2});
  const std::filesystem::path data = KV_DATA;
  for (const std::filesystem::path& model : {small.path(), data / "tiny-gqa", data / "tiny-mla"}) {
    INFO("model: " << model);
    const TemporaryDirectory directory;
    if (integers(input_format())) quantise(Checkpoint(model), directory.path() / "int8");
    check(Checkpoint(integers(input_format()) ? directory.path() / "int8" : model));
  }
}

std::vector<Stage> exact_stages(const Checkpoint& checkpoint) {
  std::vector<Stage> chosen = stages_of_layers(family(checkpoint.config()));
  std::erase_if(chosen, [](const Stage& stage) { return !stage.equality.exact(); });
  return chosen;
}

Decoder decoder_of(const Checkpoint& checkpoint, const Stage& stage, index_t sequences = 1) {
  return make_decoder(checkpoint, stage, {.sequences = sequences, .capacity = 40});
}

const std::vector<InputFormat> formats = {InputFormat::bf16x3, InputFormat::bf16, InputFormat::bf16_tiles, InputFormat::int8, InputFormat::int8x2};

}  // namespace

TEST_CASE("inputs: exact stages agree in any chunks", "[inputs]") {
  const Inputs in_use(GENERATE(from_range(formats)));
  on_every_model([](const Checkpoint& checkpoint) {
    const std::vector<Token> tokens = random_tokens(37, model_sizes(checkpoint.config()).vocabulary, 1);
    const Tensor<2> expected = whole_logits(checkpoint, find_stage("uncached"), tokens);
    for (const Stage& stage : exact_stages(checkpoint))
      for (const std::vector<index_t>& chunks : {std::vector<index_t>{37}, {33, 1, 1, 2}, {1, 16, 17, 1, 1, 1}}) {
        CAPTURE(name(input_format()), stage.name, chunks);
        Decoder decoder = decoder_of(checkpoint, stage);
        CHECK(exact(logits_in_chunks(decoder, 0, tokens, chunks), expected));
      }
  });
}

TEST_CASE("inputs: a batch of ragged lengths gives what each gives alone", "[inputs]") {
  const Inputs in_use(GENERATE(from_range(formats)));
  on_every_model([](const Checkpoint& checkpoint) {
    const index_t lengths[] = {5, 37, 1};
    const Stage& stage = find_stage("preallocated");
    std::vector<NewTokens> batch;
    for (index_t b = 0; b < 3; ++b)
      batch.push_back({b, random_tokens(lengths[b], model_sizes(checkpoint.config()).vocabulary, static_cast<unsigned>(40 + b))});
    const Tensor<2> logits = decoder_of(checkpoint, stage, 3).logits(batch);
    for (index_t b = 0, first = 0; b < 3; first += lengths[b++]) {
      CAPTURE(name(input_format()), b);
      CHECK(exact(rows(logits, first, lengths[b]), whole_logits(checkpoint, stage, batch[b].tokens)));
    }
  });
}

TEST_CASE("inputs: every instruction set and number of threads gives the same", "[inputs]") {
  const Inputs in_use(GENERATE(from_range(formats)));
  on_every_model([](const Checkpoint& checkpoint) {
    const std::vector<Token> tokens = random_tokens(36, model_sizes(checkpoint.config()).vocabulary, 6);
    const bool latent = family(checkpoint.config()) == Family::mla;
    for (const char* name_of_stage : {"preallocated", latent ? "absorbed" : "paged"}) {
      const Stage& stage = find_stage(name_of_stage);
      std::vector<Tensor<2>> found;
      for (const InstructionSet set : available_instruction_sets())
        for (const index_t thread_count : {1, 3}) {
          const Machine machine(set, thread_count);
          Decoder decoder = decoder_of(checkpoint, stage);
          found.push_back(logits_in_chunks(decoder, 0, tokens, {33, 1, 1, 1}));
          CAPTURE(name(input_format()), stage.name, name(set), thread_count);
          CHECK(exact(found.back(), found.front()));
        }
    }
  });
}
