/// The bits of every stage's logits are on record in golden/bits.json: for each instruction set, each number of threads
/// and each compiler the same. A commit that changes them changes the file too, and says why. golden/README.md says how.
#include <cstdlib>
#include <fstream>

#include "tests/support/catch.hpp"
#include "tests/support/decoders.hpp"
#include "tests/support/instruction_sets.hpp"
#include "tests/support/sha256.hpp"

using namespace kv;
using namespace kv::test;

namespace {

const std::filesystem::path record = std::filesystem::path(KV_GOLDEN) / "bits.json";
const std::vector<std::string> models{"tiny-gqa", "tiny-mla"};

Checkpoint shipped(const std::string& model) { return Checkpoint(std::filesystem::path(KV_DATA) / model); }

/// A fixed text of no meaning, long enough for more than one block of rows.
std::vector<Token> fixed_tokens(const Checkpoint& checkpoint) {
  const index_t V = model_sizes(checkpoint.config()).vocabulary;
  std::vector<Token> tokens;
  for (index_t t = 0; t < 150; ++t) tokens.push_back(static_cast<Token>((t * t * 31 + t * 7 + 5) % V));
  return tokens;
}

/// A prompt, one more chunk, and steps; a budget is one that the text outgrows.
std::string bits_of(const Checkpoint& checkpoint, Stage stage) {
  if (stage.options.has("budget")) stage.options.set("budget", "64");
  const std::vector<Token> tokens = fixed_tokens(checkpoint);
  Decoder decoder = make_decoder(checkpoint, stage, {.sequences = 1, .capacity = tokens.size()});
  const Tensor<2> logits = logits_in_chunks(decoder, 0, tokens, {131, 16, 1, 1, 1});
  return sha256(std::as_bytes(std::span(logits.data(), logits.size())));
}

constexpr const char* how_to_write = "After a change that is meant: KV_WRITE_BITS=1 build/tests/bits_test";
bool on_purpose() { return std::getenv("KV_WRITE_BITS") != nullptr; }

void write_record() {
  JsonObject all;
  for (const std::string& model : models) {
    JsonObject stages;
    for (const Stage& stage : stages_of_layers(family(shipped(model).config())))
      stages.set(stage.name, bits_of(shipped(model), stage));
    all.set(model, stages);
  }
  std::ofstream(record) << all.text() << "\n";
}

void repeats_the_record(const std::string& model) {
  const Checkpoint checkpoint = shipped(model);
  const Json recorded = Json::read(record).at(model);
  for (const Stage& stage : stages_of_layers(family(checkpoint.config())))
    for (const InstructionSet set : available_instruction_sets())
      for (const index_t thread_count : {index_t{1}, index_t{2}}) {
        const Machine machine(set, thread_count);
        INFO(how_to_write);
        CAPTURE(model, stage.name, name(set), thread_count);
        CHECK(bits_of(checkpoint, stage) == recorded.at(stage.name).text());
      }
}

}  // namespace

TEST_CASE("SHA-256 of the standard's examples", "[bits]") {
  const auto of = [](const std::string& text) { return sha256(std::as_bytes(std::span(text))); };
  CHECK(of("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(of("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK(of(std::string(1000000, 'a')) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_CASE("every stage of layers is on record, and no other", "[bits]") {
  INFO(how_to_write);
  if (on_purpose()) write_record();
  const Json recorded = Json::read(record);
  CHECK(recorded.keys() == models);
  for (const std::string& model : models) {
    std::vector<std::string> names;
    for (const Stage& stage : stages_of_layers(family(shipped(model).config()))) names.emplace_back(stage.name);
    CHECK(recorded.at(model).keys() == names);
  }
}

TEST_CASE("the bits of tiny-gqa's stages are those on record", "[bits]") { repeats_the_record("tiny-gqa"); }
TEST_CASE("the bits of tiny-mla's stages are those on record", "[bits]") { repeats_the_record("tiny-mla"); }
