/// Is a needle found: by the models whose weights are written down, so that nothing but the stage
/// can lose it, and by the trained ones in the words that they were taught.
#include <algorithm>
#include <cmath>
#include <set>

#include "chapters/studies/needle.hpp"
#include "common/files/error.hpp"
#include "tests/support/decoders.hpp"

using namespace kv;
using namespace kv::test;

namespace {

std::filesystem::path data(const std::string& name) {
  return std::filesystem::path(KV_DATA) / name;
}

const std::string sentences = "The fox ran. The hen sat still. \"Who is there?\" said the owl. ";
const NeedleTask task{.needle = "#{}", .question = "#", .answer = "{}"};

Haystack haystack(const std::filesystem::path& model, const Tokenizer& tokenizer) {
  return Haystack(tokenizer, tokenizer.encode_with_special(""),
                  contents_of(data("held_out/hay.txt")),
                  read_needle_task(Json::read(model / "needle.json")));
}

/// Of these depths, in percent, those where a decoder finds the needle.
std::vector<int> found(const std::filesystem::path& model, Decoder& decoder, index_t length,
                       const std::vector<int>& depths) {
  const Tokenizer tokenizer(model / "tokenizer.json");
  const Haystack hay = haystack(model, tokenizer);
  std::vector<int> result;
  for (const int depth : depths)
    if (ask(decoder, hay.text(length, depth / 100.0, 0)).is_right()) result.push_back(depth);
  return result;
}

Stage with_budget(const std::string& budget) {
  Stage stage = find_stage("streaming");
  stage.options.set("budget", budget);
  return stage;
}

/// The written-down model whose layer 0 tells nobody what it has seen.
void forget_to_look_back(const std::filesystem::path& directory) {
  std::string file = contents_of(directory / "model.safetensors");
  const index_t header =
      static_cast<unsigned char>(file[0]) + 256u * static_cast<unsigned char>(file[1]);
  const Json place = Json::parse(std::string_view(file).substr(8, header), "header")
                         .at("model.layers.0.self_attn.o_proj.weight")
                         .at("data_offsets");
  std::fill(file.begin() + static_cast<std::ptrdiff_t>(8 + header + place.at(index_t{0}).size()),
            file.begin() + static_cast<std::ptrdiff_t>(8 + header + place.at(index_t{1}).size()),
            '\0');
  std::ofstream(directory / "model.safetensors", std::ios::binary) << file;
}

const std::vector<int> depths{0, 10, 50, 90, 100};

}  // namespace

TEST_CASE("every stage that forgets nothing finds the needle at every depth", "[needle]") {
  const std::string name = GENERATE("needle", "needle-mla");
  const index_t length = GENERATE(20, 300, 1100);  // 1100: more than two pieces
  const Checkpoint checkpoint(data(name));
  for (Stage stage : stages_of_layers(family(checkpoint.config()))) {
    if (stage.equality.lossy) continue;
    if (stage.options.has("ranks")) stage.options.set("ranks", "1");  // these models have one head
    CAPTURE(name, stage.name, length);
    Decoder decoder = make_decoder(checkpoint, stage, {.sequences = 1, .capacity = length});
    CHECK(found(data(name), decoder, length, depths) == depths);
  }
}

TEST_CASE("a stage that forgets loses what is behind its window, and nothing else", "[needle]") {
  const std::string name = GENERATE("needle", "needle-mla");
  const Checkpoint checkpoint(data(name));
  const auto with = [&](const Stage& stage) {
    Decoder decoder = make_decoder(checkpoint, stage, {.sequences = 1, .capacity = 400});
    return found(data(name), decoder, 400, depths);
  };
  CHECK(with(with_budget("100")) == std::vector{90, 100});
  CHECK(with(with_budget("400")) == depths);
}

TEST_CASE("a model that does not look back finds no needle", "[needle]") {
  const TemporaryDirectory broken;
  std::filesystem::copy(data("needle"), broken.path());
  forget_to_look_back(broken.path());
  const Checkpoint checkpoint(broken.path());
  Decoder decoder =
      make_decoder(checkpoint, find_stage("preallocated"), {.sequences = 1, .capacity = 300});
  CHECK(found(broken.path(), decoder, 300, depths).empty());
}

TEST_CASE("trained models are asked in the words that they were taught", "[needle]") {
  const std::string name = GENERATE("tiny-gqa", "tiny-mla");
  CAPTURE(name);
  Decoder decoder = make_decoder(Checkpoint(data(name)), find_stage("preallocated"),
                                 {.sequences = 1, .capacity = 200});
  CHECK(found(data(name), decoder, 200, depths).size() >= 4);
}

TEST_CASE("of a stage that remembers nothing the first token is asked, of others all", "[needle]") {
  const Checkpoint checkpoint(data("needle"));
  const Tokenizer tokenizer(data("needle/tokenizer.json"));
  const NeedleText text = haystack(data("needle"), tokenizer).text(700, 0.5, 0);
  const auto answer = [&](std::string_view stage) {
    Decoder decoder =
        make_decoder(checkpoint, find_stage(stage), {.sequences = 1, .capacity = 700});
    std::vector<index_t> fed;
    ask(decoder, text);  // is forgotten
    const NeedleAnswer answer = ask(decoder, text, [&](index_t count) { fed.push_back(count); });
    return std::tuple(answer.asked, answer.right, fed);
  };
  CHECK(answer("uncached") == std::tuple(1u, 1u, std::vector<index_t>{512, 697}));
  CHECK(answer("preallocated") == std::tuple(3u, 3u, std::vector<index_t>{512, 697}));

  NeedleText other = text;
  std::swap(other.answer[1], other.answer[2]);
  Decoder decoder =
      make_decoder(checkpoint, find_stage("preallocated"), {.sequences = 1, .capacity = 700});
  CHECK(ask(decoder, other).right == 1);
  CHECK_FALSE(ask(decoder, other).is_right());
}

TEST_CASE("a text has the length asked for, and the needle at the end of a sentence", "[needle]") {
  const Tokenizer tokenizer(data("needle/tokenizer.json"));
  const Haystack hay(tokenizer, tokenizer.encode_with_special(""), sentences, task);
  const index_t length = GENERATE(10, 70, 1000);
  for (const double depth : {0.0, 0.25, 0.5, 1.0}) {
    const NeedleText text = hay.text(length, depth, 1);
    CHECK(text.prompt.size() + text.answer.size() == length);
    const std::string prompt = tokenizer.decode(text.prompt), value = tokenizer.decode(text.answer);
    CAPTURE(prompt, value, depth);
    const index_t place = prompt.find("#" + value);
    REQUIRE(place != prompt.npos);
    CHECK(prompt.starts_with("<|bos|>"));
    CHECK(prompt.ends_with("#"));
    CHECK(std::ranges::count(prompt, '#') == 2);
    CHECK(std::set(value.begin(), value.end()).size() == 3);
    if (depth == 0.0) CHECK(place == 7);
    if (depth == 1.0) CHECK(place + 5 == prompt.size());
    if (length == 1000 && depth > 0) CHECK((prompt[place - 1] == '.' || prompt[place - 1] == '"'));
    const double hay_before = static_cast<double>(place - 7), all = static_cast<double>(length - 9);
    CHECK(std::abs(hay_before - depth * all) <= 30);  // the longest sentence
  }
}

TEST_CASE("trials have other values and other hay, and each is the same every time", "[needle]") {
  const Tokenizer tokenizer(data("needle/tokenizer.json"));
  const Haystack hay(tokenizer, {}, sentences, task);
  std::set<std::vector<Token>> values, prompts;
  for (index_t trial = 0; trial < 20; ++trial) {
    const NeedleText text = hay.text(60, 0.5, trial);
    values.insert(text.answer);
    prompts.insert(text.prompt);
    CHECK(hay.text(60, 0.5, trial).prompt == text.prompt);
  }
  CHECK(values.size() > 15);
  CHECK(prompts.size() > 15);
}

TEST_CASE("hay without sentences holds the needle too; markers in hay are left out", "[needle]") {
  const Tokenizer tokenizer(data("needle/tokenizer.json"));
  const auto text = [&](const std::string& hay, double depth) {
    return tokenizer.decode(Haystack(tokenizer, {}, hay, task).text(107, depth, 0).prompt);
  };
  CHECK(text("abc", 0.3).find('#') == 30);
  CHECK(text("<|bos|>ab<|eos|>c<|bos|>", 0.3) == text("abc", 0.3));
  CHECK(holds(error_of([&] { text("", 0.5); }), "the hay is empty"));
  CHECK(holds(error_of([&] { text("<|bos|>", 0.5); }), "the hay is empty"));
  CHECK(holds(error_of([&] { Haystack(tokenizer, {}, "abc", task).text(8, 0.5, 0); }),
              "8 tokens is too short: needle, question and answer are 8"));
}

TEST_CASE("a task says where the value goes, once", "[needle]") {
  const auto read = [](std::string_view text) {
    return read_needle_task(Json::parse(text, "needle.json"));
  };
  const NeedleTask good = read(R"({"needle": "It is {}.", "question": "What?", "answer": " {}"})");
  CHECK(good.needle == "It is {}.");
  CHECK(good.question == "What?");
  CHECK(good.answer == " {}");
  CHECK(holds(error_of([&] { read(R"({"needle": "It is.", "question": "", "answer": "{}"})"); }),
              "needle.json: needle must have one {}"));
  CHECK(holds(error_of([&] { read(R"({"needle": "{}", "question": "", "answer": "{}{}"})"); }),
              "needle.json: answer must have one {}"));
  CHECK(
      holds(error_of([&] { read(R"({"needle": "{}", "answer": "{}"})"); }), "question is missing"));
}
