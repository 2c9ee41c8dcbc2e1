/// The program as a user meets it: what it prints, where, with which exit code, and what it leaves behind.
#include <algorithm>
#include <cmath>

#include "chapters/models/family.hpp"
#include "common/files/npy.hpp"
#include "common/tensor/input_format.hpp"
#include "common/tensor/simd/instruction_set.hpp"
#include "common/text/tokenizer.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/decoders.hpp"
#include "tests/support/equality.hpp"
#include "tests/support/program.hpp"
#include "tests/support/random.hpp"

using namespace kv;
using namespace kv::test;

namespace {

using Words = std::vector<std::string>;

Finished kvbook(Words words, std::string_view input = "", const std::string& out_file = "") {
  words.insert(words.begin(), KV_PROGRAM);
  return run_program(words, input, out_file);
}

std::string joined(const Words& words) {
  std::string text;
  for (const std::string& word : words) text += " " + word.substr(0, 60);
  return text;
}

/// Standard output of a run that must succeed, and say nothing else: standard error is no terminal here.
std::string output_of(const Words& words, std::string_view input = "") {
  const Finished finished = kvbook(words, input);
  INFO("kvbook" << joined(words));
  CHECK(finished.err == "");
  REQUIRE(finished.exit_code == 0);
  return finished.out;
}
Json json_of(const Words& words) { return Json::parse(output_of(words), "output"); }

/// The one line of a run that must fail, and write nothing to standard output.
std::string failure_of(const Words& words, int exit_code, std::string_view input = "") {
  const Finished finished = kvbook(words, input);
  INFO("kvbook" << joined(words));
  CAPTURE(finished.err);
  CHECK(finished.exit_code == exit_code);
  CHECK(finished.out == "");
  CHECK(finished.err.starts_with("kvbook: error: "));
  CHECK(std::ranges::count(finished.err, '\n') == 1);
  CHECK(finished.err.ends_with("\n"));
  CHECK(finished.err.size() > 25);
  return finished.err;
}

/// Names, sorted.
Words files_in(const std::filesystem::path& directory) {
  Words names;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) names.push_back(entry.path().filename().string());
  std::ranges::sort(names);
  return names;
}

/// "1,2,3"
std::string list(const std::vector<Token>& tokens) {
  std::string text;
  for (const Token token : tokens) text += (text.empty() ? "" : ",") + std::to_string(token);
  return text;
}

const Words commands{"tour", "stages", "generate", "chat", "serve", "compare", "trace", "bench", "logits", "inspect", "budget", "perplexity", "needle", "quantise", "pack", "tokenise", "claim"};
const std::string tiny = std::string(KV_DATA) + "/tiny-gqa";

/// Names of the stages that serve the shipped GQA model, with the exact ones told apart.
Words stage_names(bool exact_only) {
  Words names;
  for (const Stage& stage : stages(Family::gqa))
    if (!exact_only || stage.equality.exact()) names.emplace_back(stage.name);
  return names;
}

/// The numbers N of "[N tokens reused, M prefilled, ..." in order.
std::vector<index_t> reused_tokens(const std::string& chat) {
  std::vector<index_t> found;
  for (std::size_t end = chat.find(" tokens reused, "); end != chat.npos; end = chat.find(" tokens reused, ", end + 1))
    found.push_back(std::stoul(chat.substr(chat.rfind('[', end) + 1)));
  return found;
}

}  // namespace

// ---- help, version, usage ----

TEST_CASE("help is there on every level", "[cli]") {
  for (const char* word : {"--help", "-h", "help"}) {
    const std::string help = output_of({word});
    CAPTURE(word);
    CHECK(holds(help, "usage: kvbook"));
    for (const std::string& command : commands) CHECK(holds(help, "\n  " + command));
  }
  for (const std::string& command : commands)
    for (const char* word : {"--help", "-h"}) {
      const std::string help = output_of({command, word});
      CAPTURE(command, word);
      CHECK(holds(help, "usage: kvbook " + command));
      CHECK(holds(help, "  --help"));
      if (command != "stages") CHECK(holds(help, "  --model DIR"));
    }
}

TEST_CASE("the version", "[cli]") {
  const std::string version = output_of({"--version"});
  CHECK(version.starts_with("kvbook "));
  CHECK(std::ranges::count(version.substr(0, version.find('\n')), '.') == 2);
  CHECK(holds(version, "\ninputs: f32 by "));
  CHECK(std::ranges::count(version, '\n') == 2);
}

TEST_CASE("inputs of layers: a format of the book's, with weights that go with it", "[cli]") {
  const SmallCheckpoint files_in_bf16({.type = DType::bf16}), files_in_f32;
  const TemporaryDirectory directory;
  const std::string bf16 = files_in_bf16.path().string(), f32 = files_in_f32.path().string();
  const std::string i8 = (directory.path() / "i8").string(), mla = (std::filesystem::path(KV_DATA) / "tiny-mla").string(), mla_i8 = i8 + "-mla";
  output_of({"quantise", "--model", bf16, "--output", i8});
  output_of({"quantise", "--model", mla, "--output", mla_i8});
  const auto bench = [](const std::string& model, const std::string& inputs, const std::string& stage = "preallocated") {
    return Words{"bench", "--model", model, "--stage", stage, "--prompt-tokens", "3", "--new-tokens", "2", "--inputs", inputs, "--json"};
  };
  const auto inputs_of = [](const std::string& output) { return Json::parse(output, "output").at("inputs").text(); };
  for (const InputFormat format : input_formats()) {
    const std::string format_name(name(format));
    const std::string& fitting = integers(format) ? i8 : bf16;
    CHECK(inputs_of(output_of(bench(fitting, format_name))) == format_name);
    if (format == InputFormat::f32) continue;
    for (const std::string& other : {f32, integers(format) ? bf16 : i8})
      CHECK(holds(failure_of(bench(other, format_name), 2), "inputs in " + format_name + " go with weights in " + (integers(format) ? "i8; " : "bf16; ")));
    CHECK(holds(failure_of(bench(f32, format_name), 2), "' is in f32"));
    CHECK(holds(failure_of(bench(fitting, format_name, "cuda-naive"), 2), "products of its own"));
    if (integers(format)) CHECK(holds(failure_of(bench(fitting, format_name, "parallel-reduce"), 2), "a scale belongs to a whole row"));
    CHECK(output_of({"compare", "--model", integers(format) ? mla_i8 : mla, "--max-new-tokens", "4", "--inputs", format_name}).find("cuda") == std::string::npos);
  }
  for (const auto& [model, weights] : {std::pair(bf16, DType::bf16), std::pair(i8, DType::i8)}) {
    const Finished fastest = kvbook(bench(model, "fastest"));
    const std::string chosen = inputs_of(fastest.out);
    CHECK(std::ranges::count_if(input_formats(), [&](InputFormat format) { return name(format) == chosen && goes_with(format, weights); }) == 1);
    CHECK(fastest.err == "inputs: " + chosen + ", the fastest here\n");
  }
  const Finished none = kvbook(bench(f32, "fastest"));
  CHECK(inputs_of(none.out) == "f32");
  CHECK(none.err == "inputs: f32, as no other format goes with these weights\n");
  CHECK(holds(failure_of(bench(bf16, "int4"), 2), "--inputs int4 is not known; there are f32, bf16x3"));
  CHECK(json_of({"bench", "--model", f32, "--prompt-tokens", "3", "--new-tokens", "2", "--json"}).at("inputs").text() == "f32");
}

TEST_CASE("pack keeps the packed weights beside the model, and answers stay the same", "[cli]") {
  const TemporaryDirectory directory;
  for (const char* file : {"config.json", "model.safetensors", "tokenizer.json"})
    std::filesystem::copy_file(std::filesystem::path(KV_DATA) / "tiny-mla" / file, directory.path() / file);
  const std::string model = directory.path().string(), kept = (directory.path() / "packed.kvbook").string();
  const Words generate{"generate", "--model", model, "--prompt", "Once", "--max-new-tokens", "12"};
  const std::string before = output_of(generate);
  CHECK(output_of({"pack", "--model", model}).starts_with(kept + ": "));
  CHECK(std::filesystem::exists(kept));
  CHECK(output_of(generate) == before);
  std::filesystem::resize_file(kept, 1000);
  CHECK(holds(failure_of(generate, 1), kept));
  CHECK(output_of({"pack", "--model", model}).starts_with(kept + ": "));
  CHECK(output_of(generate) == before);
  CHECK(holds(failure_of({"pack", "--model", model + "/none"}, 1), "/none"));
}

TEST_CASE("a wrong command line: exit code 2, one line that names the word", "[cli]") {
  const auto usage = [](const Words& words) { return failure_of(words, 2); };
  CHECK(holds(usage({}), "--help"));
  CHECK(holds(usage({"train"}), "'train'"));
  CHECK(holds(usage({"--verbose"}), "'--verbose'"));
  CHECK(holds(usage({"generate", "--modle", "x"}), "'--modle'"));
  CHECK(holds(usage({"generate", "word"}), "'word'"));
  CHECK(holds(usage({"generate", "--model"}), "--model needs a value"));
  CHECK(holds(usage({"generate", "--json=yes", "--prompt", "x"}), "--json takes no value"));
  CHECK(holds(usage({"generate", "--seed", "1", "--seed", "2"}), "--seed stands twice"));
  CHECK(holds(usage({"generate"}), "--prompt is missing"));
  CHECK(holds(usage({"generate", "--prompt", "x", "--stage", "warp"}), "'warp' (stages: uncached, concat, preallocated"));
  CHECK(holds(usage({"generate", "--prompt", "x", "--stage", "99"}), "'99'"));
  CHECK(holds(usage({"generate", "--prompt", "x", "--seed", "-1"}), "--seed"));
  CHECK(holds(usage({"generate", "--prompt", "x", "--max-new-tokens", "many"}), "'many'"));
  CHECK(holds(usage({"generate", "--prompt", "x", "--max-new-tokens", "0"}), "--max-new-tokens must be at least 1"));
  CHECK(holds(usage({"generate", "--prompt", "x", "--max-new-tokens", "99999999999999999999"}), "--max-new-tokens"));
  CHECK(holds(usage({"generate", "--prompt", "x", "--temperature", "hot"}), "'hot'"));
  CHECK(holds(usage({"bench", "--threads", "0"}), "--threads must be at least 1"));
  CHECK(holds(usage({"bench", "--batch", "0"}), "--batch must be at least 1"));
  CHECK(holds(usage({"compare", "--stages", "uncached,nope"}), "'nope'"));
  CHECK(holds(usage({"compare", "--stages", ""}), "stage"));
  CHECK(holds(usage({"tour", "--chapter", "0"}), "--chapter"));
  CHECK(holds(usage({"stages", "--model", "x"}), "'--model'"));
  CHECK(holds(usage({"quantise", "--output", "x"}), "--model is missing"));
  CHECK(holds(usage({"pack"}), "--model is missing"));
  CHECK(holds(usage({"quantise", "--model", "x"}), "--output is missing"));
  CHECK(holds(usage({"quantise", "--model", "x", "--output", ""}), "--output is empty"));
  CHECK(holds(usage({"perplexity"}), "--file is missing"));
  CHECK(holds(usage({"perplexity", "--file", "x", "--window", "1"}), "--window must be at least 2"));
  CHECK(holds(usage({"perplexity", "--file", "x", "--stage", "warp"}), "'warp'"));
}

TEST_CASE("an error stays on one line, whatever it quotes", "[cli]") {
  failure_of({"tr\nain"}, 2);
  failure_of({"inspect", "--model", "no\nsuch\rdirectory"}, 1);
  CHECK_FALSE(holds(failure_of({"\x1b[31mred"}, 2), "\x1b"));
}

TEST_CASE("sampling options outside their range are errors", "[cli]") {
  for (const Words& option : {Words{"--temperature", "-1"}, Words{"--temperature", "nan"}, Words{"--temperature", "inf"},
                              Words{"--top-p", "0"}, Words{"--top-p", "1.5"}, Words{"--top-p", "nan"}}) {
    CHECK(holds(failure_of({"generate", "--prompt", "x", option[0], option[1]}, 2), option[0].substr(2)));
    CHECK(holds(failure_of({"chat", option[0], option[1]}, 2), option[0].substr(2)));
  }
}

TEST_CASE("sampling defaults outside their range are the checkpoint's fault", "[cli]") {
  const TemporaryDirectory copy;
  for (const auto& entry : std::filesystem::directory_iterator(tiny))
    std::filesystem::create_symlink(std::filesystem::absolute(entry.path()), copy.path() / entry.path().filename());
  std::filesystem::remove(copy.path() / "generation_config.json");
  copy.write("generation_config.json", R"({"do_sample": true, "temperature": 1.0, "top_p": 7})");
  const std::string message = failure_of({"generate", "--model", copy.path().string(), "--prompt", "x"}, 1);
  CHECK(holds(message, "generation_config.json: top_p"));
}

TEST_CASE("a full disk is an error", "[cli]") {
  if (!std::filesystem::exists("/dev/full")) return;
  for (const Words& words : {Words{"stages"}, Words{"--version"}, Words{"--help"}, Words{"stages", "--help"}}) {
    const Finished finished = kvbook(words, "", "/dev/full");
    CAPTURE(words);
    CHECK(finished.exit_code == 1);
    CHECK(holds(finished.err, "kvbook: error: standard output"));
  }
}

// ---- models that are not right ----

TEST_CASE("a model that is not there or not whole: exit code 1, named", "[cli]") {
  const auto logits = [](const std::filesystem::path& model) {
    return failure_of({"logits", "--model", model.string(), "--stage", "1", "--tokens", "1,2", "--output", "/nonexistent/x.npy"}, 1);
  };
  const TemporaryDirectory empty;
  CHECK(holds(logits(empty.path() / "missing"), "missing"));
  CHECK(holds(logits(empty.path()), "config.json"));
  empty.write("config.json", "{\"architectures\": ");
  CHECK(holds(logits(empty.path()), "config.json"));
  empty.write("config.json", "{}");
  CHECK(holds(logits(empty.path()), "model.safetensors"));

  const SmallCheckpoint whole;
  const std::string weights = contents_of(whole.path() / "model.safetensors");
  whole.directory().write("model.safetensors", weights.substr(0, weights.size() - 100));
  CHECK(holds(logits(whole.path()), "model.safetensors"));
  whole.directory().write("model.safetensors", "");
  CHECK(holds(logits(whole.path()), "model.safetensors"));
}

TEST_CASE("a tensor that is missing or has another shape is named", "[cli]") {
  const auto logits = [](const SmallModel& model) {
    const SmallCheckpoint files(model);
    return failure_of({"logits", "--model", files.path().string(), "--stage", "3", "--tokens", "1,2", "--output", "/nonexistent/x.npy"}, 1);
  };
  CHECK(holds(logits({.config = {{"num_hidden_layers", "3"}}}), "model.layers.2."));
  CHECK(holds(logits({.tied = true, .config = {{"tie_word_embeddings", "false"}}}), "lm_head.weight"));
  CHECK(holds(logits({.config = {{"vocab_size", "62"}}}), "model.embed_tokens.weight"));
  CHECK(holds(logits({.config = {{"intermediate_size", "57"}}}), "model.layers.0.mlp."));
  CHECK(holds(logits({.config = {{"num_key_value_heads", "3"}}}), "k_proj.weight"));
  CHECK(holds(logits({.config = {{"head_dim", "12"}}}), "q_proj.weight"));
  CHECK(holds(logits({.config = {{"architectures", R"(["Qwen3ForCausalLM"])"}}}), "q_norm.weight"));
  CHECK(holds(logits({.config = {{"attention_bias", "true"}}}), "q_proj.bias"));
  CHECK(holds(logits({.config = {{"mlp_bias", "true"}}}), "gate_proj.bias"));
  CHECK(holds(logits({.qwen3 = true, .config = {{"architectures", R"(["LlamaForCausalLM"])"}}}), "k_norm.weight' has no place"));
}

TEST_CASE("an architecture or an option that the book does not run is named, never ignored", "[cli]") {
  const auto refusal = [](const std::map<std::string, std::string>& config) {
    const SmallCheckpoint files(SmallModel{.config = config});
    const std::string message =
        failure_of({"logits", "--model", files.path().string(), "--stage", "3", "--tokens", "1,2", "--output", "/nonexistent/x.npy"}, 1);
    CHECK(failure_of({"inspect", "--model", files.path().string()}, 1) == message);
    return message;
  };
  CHECK(holds(refusal({{"architectures", R"(["GPT2LMHeadModel"])"}}), "'GPT2LMHeadModel' is not supported"));
  CHECK(holds(refusal({{"architectures", "[]"}}), "architectures"));
  CHECK(holds(refusal({{"architectures", ""}}), "architectures"));
  const std::string mistral = R"(["MistralForCausalLM"])";
  CHECK(holds(refusal({{"architectures", mistral}, {"attention_bias", "true"}}), "attention_bias is true"));
  CHECK(holds(refusal({{"architectures", mistral}, {"mlp_bias", "true"}}), "mlp_bias is true"));
  CHECK(holds(refusal({{"architectures", mistral}, {"sliding_window", "0"}}), "sliding_window is 0"));
  CHECK(holds(refusal({{"model_type", R"("mistral")"}}), "LlamaForCausalLM, which is not of model_type 'mistral'"));
  CHECK(holds(refusal({{"layer_types", R"(["full_attention", "sliding_attention"])"}}), "layer_types[1]"));
  CHECK(holds(refusal({{"per_layer_config", "{}"}}), "per_layer_config"));
  CHECK(holds(refusal({{"hidden_act", R"("gelu")"}}), "hidden_act is 'gelu'"));
  CHECK(holds(refusal({{"use_sliding_window", "true"}, {"sliding_window", "64"}}), "sliding_window is 64"));
  CHECK(holds(refusal({{"partial_rotary_factor", "0.5"}}), "partial_rotary_factor"));
  CHECK(holds(refusal({{"quantization_config", R"({"quant_method": "gptq"})"}}), "quantization_config"));
  CHECK(holds(refusal({{"num_attention_heads", "5"}}), "num_attention_heads is 5"));
  CHECK(holds(refusal({{"hidden_size", "0"}}), "hidden_size is 0"));
  CHECK(holds(refusal({{"num_hidden_layers", "-1"}}), "num_hidden_layers"));
  CHECK(holds(refusal({{"num_hidden_layers", "1.5"}}), "num_hidden_layers"));
  CHECK(holds(refusal({{"vocab_size", "\"61\""}}), "vocab_size"));
  CHECK(holds(refusal({{"hidden_size", "2147483648"}}), "hidden_size is 2147483648; it must be at least 1 and below 2^31"));
  CHECK(holds(refusal({{"hidden_size", ""}}), "hidden_size is missing"));
  CHECK(holds(refusal({{"rms_norm_eps", "null"}}), "rms_norm_eps"));
}

TEST_CASE("RoPE scaling that the book does not know is named", "[cli]") {
  const SmallCheckpoint files(SmallModel{.config = {{"rope_scaling", R"({"rope_type": "dynamic", "factor": 2.0})"}}});
  CHECK(holds(failure_of({"logits", "--model", files.path().string(), "--stage", "1", "--tokens", "1", "--output", "/nonexistent/x.npy"}, 1),
              "'dynamic' is not supported"));
}

// ---- logits ----

TEST_CASE("logits: every stage and every chunking writes the same file", "[cli]") {
  const bool bf16 = GENERATE(false, true);
  const SmallCheckpoint files(SmallModel{.type = bf16 ? DType::bf16 : DType::f32});
  const std::vector<Token> tokens = random_tokens(21, 61, 1);
  const TemporaryDirectory results;
  const std::string model = files.path().string(), output = (results.path() / "logits.npy").string();
  const std::string file_of_ids = "@" + results.write("ids.txt", "\n " + list(part(tokens, 0, 9)) + "\n" + list(part(tokens, 9, 12)) + " \n").string();
  std::string expected;
  for (const std::string& stage : stage_names(true))
    for (const Words& more : {Words{}, Words{"--chunks", "5,1,1,14"}, Words{"--chunks=1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1"},
                              Words{"--threads", "2"}, Words{"--threads", "1", "--chunks", "20,1"}}) {
      for (const std::string& ids : {list(tokens), file_of_ids}) {
        Words words{"logits", "--model", model, "--stage", stage, "--tokens", ids, "--output", output};
        words.insert(words.end(), more.begin(), more.end());
        CHECK(output_of(words) == "");
        if (expected.empty()) expected = contents_of(output);
        INFO(joined(words));
        CHECK(contents_of(output) == expected);
        std::filesystem::remove(output);
        if (!more.empty()) break;
      }
    }
  results.write("logits.npy", expected);
  const Tensor<2> found = read_npy_f32(output);
  CHECK(exact(found, whole_logits(files.open(), find_stage("uncached"), tokens)));
  CHECK(files_in(results.path()) == Words{"ids.txt", "logits.npy"});
}

TEST_CASE("logits: what cannot be done leaves no file and spoils none", "[cli]") {
  const SmallCheckpoint files;
  const TemporaryDirectory results;
  const std::string model = files.path().string(), output = results.write("out.npy", "precious").string();
  const auto refusal = [&](int exit_code, const std::string& tokens, const Words& more = {}) {
    Words words{"logits", "--model", model, "--stage", "3", "--tokens", tokens, "--output", output};
    words.insert(words.end(), more.begin(), more.end());
    const std::string message = failure_of(words, exit_code);
    CHECK(contents_of(output) == "precious");
    CHECK(files_in(results.path()) == Words{"out.npy"});
    return message;
  };
  CHECK(holds(refusal(1, "1,2,61"), "token id 61 is outside the vocabulary of 61"));
  CHECK(holds(refusal(1, "1,4294967297"), "4294967297"));
  CHECK(holds(refusal(2, "1,-2"), "'-2'"));
  CHECK(holds(refusal(2, "1,,2"), "--tokens"));
  CHECK(holds(refusal(2, "1,two"), "'two'"));
  CHECK(holds(refusal(2, ""), "--tokens"));
  CHECK(holds(refusal(1, "@/nonexistent/ids"), "/nonexistent/ids"));
  CHECK(holds(refusal(1, list(std::vector<Token>(97, 1))), "context of 96"));
  CHECK(holds(refusal(2, "1,2,3", {"--chunks", "1,1"}), "--chunks add up to 2, but there are 3 tokens"));
  CHECK(holds(refusal(2, "1,2,3", {"--chunks", "3,0"}), "--chunks"));
  CHECK(holds(refusal(2, "1,2,3", {"--chunks", "18446744073709551615,4"}), "--chunks"));
  CHECK(holds(failure_of({"logits", "--model", model, "--stage", "3", "--tokens", "1", "--output", "/nonexistent/x.npy"}, 1), "/nonexistent/x.npy"));
  CHECK(holds(failure_of({"logits", "--model", model, "--stage", "3", "--tokens", "1"}, 2), "--output"));
  CHECK(holds(failure_of({"logits", "--model", model, "--tokens", "1", "--output", output}, 2), "--stage"));
}

TEST_CASE("logits: exactly the context is not too long", "[cli]") {
  const SmallCheckpoint files;
  const TemporaryDirectory results;
  const std::string output = (results.path() / "x.npy").string();
  output_of({"logits", "--model", files.path().string(), "--stage", "3", "--tokens", list(random_tokens(96, 61, 2)), "--output", output});
  CHECK(read_npy_f32(output).shape(0) == 96);
}

// ---- tables and JSON ----

TEST_CASE("stages lists every stage with its kind of equality", "[cli]") {
  const std::string table = output_of({"stages"});
  const Json json = json_of({"stages", "--json"}).at("stages");
  REQUIRE(json.length() == stages().size());
  for (index_t i = 0; i < stages().size(); ++i) {
    const Stage& stage = stages()[i];
    CHECK(holds(table, stage.name));
    CHECK(json.at(i).at("name").text() == stage.name);
    CHECK(json.at(i).at("chapter").integer() == stage.chapter);
    CHECK(json.at(i).at("tolerance").number() == stage.equality.tolerance);
  }
  CHECK(holds(table, "bit for bit"));
}

TEST_CASE("inspect counts the bytes of every layout", "[cli]") {
  const SmallCheckpoint files;  // 2 layers, 6 query and 2 key/value heads of 10
  const Json json = json_of({"inspect", "--model", files.path().string(), "--json"});
  CHECK(json.at("architecture").text() == "LlamaForCausalLM");
  CHECK(json.at("layers").size() == 2);
  CHECK(json.at("vocabulary").size() == 61);
  CHECK(json.at("context").size() == 96);
  CHECK(json.at("parameters").size() == files.open().parameters());
  const Json layouts = json.at("layouts");
  index_t own = 0;
  for (index_t i = 0; i < layouts.length(); ++i) {
    const Json layout = layouts.at(i);
    CHECK(layout.at("bytes_per_token_f32").size() == 4 * 2 * layout.at("values_per_token_per_layer").size());
    CHECK(layout.at("bytes_per_token_bf16").size() == 2 * 2 * layout.at("values_per_token_per_layer").size());
    if (!layout.at("own").flag()) continue;
    ++own;
    CHECK(layout.at("values_per_token_per_layer").size() == 2 * 2 * 10);
    // The calculator against what is allocated.
    const Json bench = json_of({"bench", "--model", files.path().string(), "--stage", "preallocated", "--prompt-tokens", "5",
                                "--new-tokens", "4", "--json"});
    CHECK(bench.at("state_bytes_per_token").number() == Approx(layout.at("bytes_per_token_f32").number()));
  }
  CHECK(own == 1);
  CHECK(holds(output_of({"inspect", "--model", files.path().string()}), "GQA-2 *"));
  const Json formats = json.at("formats");
  REQUIRE(formats.length() == 6);
  for (index_t i = 0; i < formats.length(); ++i) {
    const std::string stage = formats.at(i).at("stage").text();
    const double bytes[] = {320, 160, 160, 112, 112, 65};  // of 2 layers: f32, bf16, f16, fp8, int8, int4
    CAPTURE(stage);
    CHECK(formats.at(i).at("bytes_per_token").number() == bytes[i]);
    CHECK(holds(output_of({"inspect", "--model", files.path().string()}), "\n" + stage));
  }

  std::filesystem::remove(files.path() / "model.safetensors");  // config.json alone will do
  CHECK(holds(output_of({"inspect", "--model", files.path().string()}), "no weights"));
  CHECK_FALSE(json_of({"inspect", "--model", files.path().string(), "--json"}).has("parameters"));
}

TEST_CASE("budget says what fits, and refuses with numbers what does not", "[cli]") {
  const std::string lite = std::string(KV_DATA) + "/configs/deepseek-v2-lite";
  const Json json = json_of({"budget", "--model", lite, "--memory", "40G", "--context", "32768", "--json"});
  REQUIRE(json.at("stages").length() == 6);
  for (index_t i = 0; i < 6; ++i) {
    const Json stage = json.at("stages").at(i);
    CHECK(stage.at("total").size() == stage.at("weights").size() + stage.at("cache").size() + stage.at("work").size());
    CHECK(stage.at("fits").flag() == (stage.at("total").size() <= 40'000'000'000));
    CHECK(stage.at("fits").flag() == (stage.at("longest_context").size() >= 32768));
  }
  CHECK(holds(output_of({"budget", "--model", lite, "--memory", "40G", "--stage", "fp8"}), "\nfp8 "));
  const std::string refused = failure_of({"budget", "--model", lite, "--memory", "8G", "--context", "1024"}, 1);
  CHECK(holds(refused, "GB of 8.000"));
  CHECK(holds(refused, "no context fits"));
  const std::string too_long = failure_of({"budget", "--model", lite, "--memory", "33G", "--stage", "bf16"}, 1);
  CHECK(holds(too_long, "tokens of context fit"));
  for (const char* wrong : {"", "24", "G", "-1G", "0G", "nanG", "24K", "24GB", "1e30T"})
    CHECK(holds(failure_of({"budget", "--memory", wrong}, 2), "--memory"));
  CHECK(holds(failure_of({"budget", "--memory", "1G", "--stage", "streaming"}, 2), "is not counted"));
  CHECK(holds(failure_of({"budget", "--memory", "1G", "--stage", "int8", "--sinks", "1"}, 2), "no option of stage int8"));
  CHECK(holds(failure_of({"budget"}, 2), "--memory"));
}

TEST_CASE("bench: any instruction set of this machine, no other", "[cli]") {
  const SmallCheckpoint files;
  const auto bench = [&](const std::string& set) {
    return std::vector<std::string>{"bench", "--model", files.path().string(), "--prompt-tokens", "3", "--new-tokens", "2", "--instructions", set, "--json"};
  };
  for (const InstructionSet set : available_instruction_sets())
    CHECK(json_of(bench(std::string(name(set)))).at("instructions").text() == name(set));
  CHECK(holds(failure_of(bench("mmx"), 2), "--instructions mmx: this processor and this build have portable"));
  use_instruction_set(available_instruction_sets().back());
}

TEST_CASE("bench prints the fields that the design promises", "[cli]") {
  const SmallCheckpoint files;
  for (const std::string& stage : stage_names(false)) {
    CAPTURE(stage);
    const Json json = json_of({"bench", "--model", files.path().string(), "--stage", stage, "--prompt-tokens", "9", "--new-tokens", "4",
                               "--threads", "2", "--json"});
    CHECK(json.at("stage").text() == stage);
    CHECK(json.at("model").text() == files.path().string());
    CHECK(json.at("prompt_tokens").size() == 9);
    CHECK(json.at("new_tokens").size() == 4);
    CHECK(json.at("batch").size() == 1);
    CHECK(json.at("threads").size() == 2);
    for (const char* field : {"ttft_ms", "tpot_ms", "prefill_tokens_per_s", "decode_tokens_per_s"}) CHECK(json.at(field).number() > 0.0);
    CHECK(json.at("peak_rss_bytes").size() > 1000000);
    CHECK((json.at("state_bytes").size() > 0) == !stage.ends_with("uncached"));
    CHECK(json.at("state_bytes_per_token").number() == Approx(json.at("state_bytes").number() / 12));  // the last token is not fed
  }
  CHECK(json_of({"bench", "--model", files.path().string(), "--prompt-tokens", "3", "--new-tokens", "2", "--batch", "3", "--json"}).at("batch").size() == 3);
  CHECK(holds(output_of({"bench", "--model", files.path().string(), "--prompt-tokens", "3", "--new-tokens", "1"}), "TTFT"));
}

TEST_CASE("a stage's options belong to it, and every command that takes a stage takes them", "[cli]") {
  const Words logits{"logits", "--model", tiny, "--tokens", "1,2,3,4,5,6,7,8,9", "--output", "/dev/null"};
  const auto with = [](Words words, const Words& more) {
    words.insert(words.end(), more.begin(), more.end());
    return words;
  };
  output_of(with(logits, {"--stage", "streaming", "--budget", "4", "--sinks", "1"}));
  output_of({"bench", "--model", tiny, "--stage", "streaming", "--budget=8", "--prompt-tokens", "20", "--new-tokens", "2"});
  CHECK(holds(failure_of(with(logits, {"--stage", "preallocated", "--budget", "4"}), 2), "--budget is no option of stage preallocated"));
  CHECK(holds(failure_of({"compare", "--model", tiny, "--stages", "1,2", "--sinks", "4"}, 2), "--sinks is no option of stages uncached, concat"));
  CHECK(holds(failure_of(with(logits, {"--stage", "streaming", "--budget", "0"}), 2), "--budget 0: needs a whole number from 1 to"));
  CHECK(holds(failure_of(with(logits, {"--stage", "streaming", "--budget", "4"}), 2), "leaves no row for a window beside 4 sinks"));
  CHECK(holds(failure_of(with(logits, {"--stage", "streaming", "--budget", "100000"}), 2), "more than the model's context"));
  CHECK(holds(failure_of({"inspect", "--budget", "4"}, 2), "unknown option '--budget'"));
  CHECK(holds(output_of({"generate", "--help"}), "--budget N"));
  const Json runs = json_of({"compare", "--model", tiny, "--stages", "1,streaming", "--budget", "12", "--max-new-tokens", "30", "--json"}).at("runs");
  CHECK(runs.at(1).at("promise_holds").flag());
  CHECK(runs.at(1).at("loss").number() > runs.at(1).at("reference_loss").number());  // it has forgotten the story
  CHECK(runs.at(1).at("first_other_token").size() < 30);
  CHECK(holds(output_of({"compare", "--model", tiny, "--stages", "1,streaming", "--budget", "12", "--max-new-tokens", "30"}), "other text from token"));
}

TEST_CASE("needle: a grid of stages, lengths and depths, as a table, a figure and JSON", "[cli]") {
  const TemporaryDirectory files;
  const std::string figure = (files.path() / "grid.svg").string();
  const Words grid{"needle", "--model", std::string(KV_DATA) + "/needle", "--lengths", "60,200"};
  const auto with = [&](const Words& more) {
    Words words = grid;
    words.insert(words.end(), more.begin(), more.end());
    return words;
  };
  const std::string table = output_of(with({"--stages", "1,3", "--depths", "0,50", "--svg", figure}));
  CHECK(holds(table, "uncached"));
  CHECK(holds(table, "1/1"));
  CHECK(holds(table, "uncached was asked for the first token"));
  CHECK(holds(contents_of(figure), "preallocated, 200, 50%: 1<"));

  const Json json = json_of(with({"--stages", "3,streaming", "--budget", "40", "--depths", "0,100",
                                  "--trials", "2", "--json"}));
  const Json cells = json.at("cells");
  REQUIRE(cells.length() == 8);
  for (index_t i = 0; i < 8; ++i) {
    const bool forgotten = i == 4 || i == 6;  // streaming, at the beginning
    CHECK(cells.at(i).at("found").size() == (forgotten ? 0 : 2));
    CHECK(cells.at(i).at("trials").size() == 2);
    CHECK(cells.at(i).at("tokens").size() == (i % 4 < 2 ? 60 : 200));
  }
  CHECK(cells.at(4).at("options").at("budget").number() == 40);
  CHECK(json.at("peak_rss_bytes").size() > 0);

  // Longer than the context: for a stage that counts positions among the rows it keeps.
  const Words far{"needle", "--model", tiny, "--lengths", "2000", "--depths", "100"};
  CHECK(holds(failure_of(far, 1), "context of 1024"));
  Words streaming = far;
  streaming.insert(streaming.end(), {"--stages", "streaming"});
  CHECK(holds(output_of(streaming), "2,000"));
}

TEST_CASE("needle: what is wrong is said before any work", "[cli]") {
  const auto fails = [](int code, const Words& more) {
    Words words{"needle", "--model", std::string(KV_DATA) + "/needle"};
    words.insert(words.end(), more.begin(), more.end());
    return failure_of(words, code);
  };
  CHECK(holds(fails(2, {"--depths", "0,101"}), "numbers from 0 to 100"));
  CHECK(holds(fails(2, {"--depths", "0,,5"}), "--depths"));
  CHECK(holds(fails(2, {"--depths", "nan"}), "--depths"));
  CHECK(holds(fails(2, {"--lengths", "many"}), "--lengths needs a whole number"));
  CHECK(holds(fails(2, {"--trials", "0"}), "--trials must be at least 1"));
  CHECK(holds(fails(2, {"--stages", "nothing"}), "no stage 'nothing'"));
  CHECK(holds(fails(2, {"--stages", "3,streaming", "--budget", "2"}), "leaves no row for a window"));
  CHECK(holds(fails(1, {"--lengths", "5"}), "5 tokens is too short"));
  CHECK(holds(fails(1, {"--lengths", "200000"}), "context of 131072"));
  CHECK(holds(fails(1, {"--stages", "3,absorbed"}), "does not run on"));
  CHECK(holds(fails(1, {"--hay", "/dev/null"}), "is empty, expected text"));
  CHECK(holds(fails(1, {"--task", "/dev/null"}), "/dev/null"));
  const SmallCheckpoint random;
  CHECK(holds(failure_of({"needle", "--model", random.path().string()}, 1), "tokenizer.json"));

  // A figure that cannot be written does not take the table with it.
  const Finished lost = kvbook({"needle", "--model", std::string(KV_DATA) + "/needle", "--lengths",
                                "40", "--svg", "/dev/full/x.svg"});
  CHECK(lost.exit_code == 1);
  CHECK(holds(lost.out, "preallocated"));
  CHECK(holds(lost.err, "x.svg: cannot be written"));
}

// ---- text: the shipped models. Their weights may change, so no test here knows what they say ----

TEST_CASE("generate: the same text from every stage", "[cli]") {
  const Words words{"generate", "--model", tiny, "--prompt", "The little dog", "--max-new-tokens", "24", "--temperature", "0"};
  std::string expected, expected_ids;
  for (const Stage& stage : stages(Family::gqa)) {
    if (!stage.equality.exact()) continue;
    Words with_stage = words, as_json = words;
    with_stage.insert(with_stage.end(), {"--stage", std::string(stage.name)});
    as_json.insert(as_json.end(), {"--stage", std::to_string(stage.chapter), "--json"});
    const std::string text = output_of(with_stage);
    CAPTURE(stage.name);
    CHECK(text.starts_with("The little dog"));
    CHECK(text.ends_with("\n"));
    if (expected.empty()) expected = text;
    CHECK(text == expected);
    const Json json = json_of(as_json);
    CHECK(json.at("prompt").text() + json.at("text").text() + "\n" == text);
    CHECK(json.at("tokens").length() <= 24);
    CHECK(json.at("tokens").length() == json.at("new_tokens").size());
    CHECK(json.at("stage").text().size() > 0);
    CHECK(json.at("ttft_ms").number() > 0.0);
  }
}

TEST_CASE("generate: a seed draws the same text again", "[cli]") {
  const auto text = [](const char* seed, const char* stage) {
    return output_of({"generate", "--model", tiny, "--prompt", "One day", "--max-new-tokens", "30", "--temperature", "2", "--top-k", "100",
                      "--top-p", "0.98", "--seed", seed, "--stage", stage});
  };
  CHECK(text("7", "preallocated") == text("7", "preallocated"));
  CHECK(text("7", "preallocated") == text("7", "concat"));
  CHECK(text("7", "preallocated") != text("8", "preallocated"));
}

TEST_CASE("generate: top-k 1 is greedy, and asks for no temperature", "[cli]") {
  const auto text = [](const Words& more) {
    Words words{"generate", "--model", tiny, "--prompt", "One day", "--max-new-tokens", "12"};
    words.insert(words.end(), more.begin(), more.end());
    return output_of(words);
  };
  CHECK(text({"--top-k", "1", "--seed", "5"}) == text({"--temperature", "0"}));
}

TEST_CASE("generate: a prompt that does not fit the context is refused", "[cli]") {
  std::string prompt;
  for (int i = 0; i < 3000; ++i) prompt += "dog ";
  CHECK(holds(failure_of({"generate", "--model", tiny, "--prompt", prompt}, 1), "context"));
  CHECK(holds(failure_of({"generate", "--model", tiny, "--prompt", "x", "--max-new-tokens", "1000000"}, 1), "context"));
  const SmallCheckpoint no_tokenizer;
  CHECK(holds(failure_of({"generate", "--model", no_tokenizer.path().string(), "--prompt", "x"}, 1), "tokenizer.json"));
}

TEST_CASE("compare: every stage keeps its promise", "[cli]") {
  Words models{tiny};
  const std::string other = std::string(KV_DATA) + "/tiny-mla";
  if (std::filesystem::exists(other) && why_not_supported(other).empty()) models.push_back(other);
  for (const std::string& model : models) {
    CAPTURE(model);
    const Json json = json_of({"compare", "--model", model, "--prompt", "Anna and the cat", "--max-new-tokens", "16", "--json"});
    const Json runs = json.at("runs");
    const std::vector<Stage> expected = stages(family(Checkpoint(model).config()));
    REQUIRE(runs.length() == expected.size());
    for (index_t i = 0; i < expected.size(); ++i) {
      const Json run = runs.at(i);
      CAPTURE(expected[i].name);
      CHECK(run.at("stage").text() == expected[i].name);
      CHECK(run.at("promise_holds").flag());
      if (!expected[i].equality.lossy) CHECK(run.at("same_tokens").flag());
      if (expected[i].equality.exact()) CHECK(run.at("different_logits").size() == 0);
      CHECK(run.at("state_bytes").number() >= 0.0);
    }
  }
  const std::string table = output_of({"compare", "--model", tiny, "--stages", "concat,3", "--max-new-tokens", "4"});
  CHECK(holds(table, "concat"));
  CHECK(holds(table, "equal bits"));
  CHECK_FALSE(holds(table, "uncached"));
}

TEST_CASE("tour: all stages side by side, without a word about the model's path", "[cli]") {
  const std::string tour = output_of({"tour", "--max-new-tokens", "10", "--prompt", "The cat"});
  for (const std::string& name : stage_names(false)) CHECK(holds(tour, "\n" + name));
  CHECK(holds(tour, "The cat"));
  CHECK(holds(tour, "same 10 tokens"));
  CHECK_FALSE(holds(tour, "OTHER"));
  const std::string start = output_of({"tour", "--max-new-tokens", "3", "--chapter", "2"});
  CHECK(holds(start, "concat"));
  CHECK_FALSE(holds(start, "preallocated"));
}

TEST_CASE("gpu-bench: needs a GPU, but for its tiny sizes", "[cli]") {
  CHECK(holds(failure_of({"gpu-bench"}, 1), "needs a GPU: build with KV_CUDA=ON and use kvbook-gpu"));
  const Json json = json_of({"gpu-bench", "--tiny", "--untried", "--json"});
  CHECK(json.at("device").at("is_cpu_runtime").flag());
  const Json shape = json.at("ladder").at(index_t{0}), rungs = shape.at("rungs");
  CHECK_FALSE(shape.has("yardstick"));  // FlashMLA is of nvcc's build alone, and there only where asked for
  REQUIRE(rungs.length() >= 6);
  for (index_t i = 0; i < rungs.length(); ++i) {
    CHECK(rungs.at(i).at("ran").flag());
    CHECK_FALSE(rungs.at(i).has("microseconds"));  // the CPU runtime tells no speed
  }
  for (const char* models : {"decode", "dense"}) CHECK(json.at(models).at(index_t{0}).at("ran").flag());
  const Json pair = json.at("uncached").at(index_t{0});
  for (const char* model : {"cached", "uncached"}) CHECK(pair.at(model).at("ran").flag());
  CHECK(pair.at("uncached").at("cache_bytes").integer() == 0);  // nothing outlasts a pass
}

TEST_CASE("compare calls nobody defective next to a stage that is itself inexact or lossy", "[cli]") {
  const std::string mla = std::string(KV_DATA) + "/tiny-mla";
  for (const char* stages : {"absorbed,preallocated,latent", "int8,preallocated", "streaming,uncached"}) {
    CAPTURE(stages);
    const Json runs = json_of({"compare", "--model", mla, "--stages", stages, "--max-new-tokens", "40", "--json"}).at("runs");
    for (index_t i = 0; i < runs.length(); ++i) CHECK(runs.at(i).at("promise_holds").flag());
  }
}

TEST_CASE("chat keeps the cache between turns", "[cli]") {
  const Words words{"chat", "--model", tiny, "--max-new-tokens", "6"};
  const std::string input = "Tell me a story about a dog.\n\nAnd then?\nWhy?\n/reset\nHello\n";
  const std::string said = output_of(words, input);
  const std::vector<index_t> reused = reused_tokens(said);
  CAPTURE(said);
  REQUIRE(reused.size() == 4);
  CHECK(reused[0] == 0);
  CHECK(reused[1] > 10);
  CHECK(reused[2] > reused[1]);
  CHECK(reused[3] == 0);  // after /reset
  for (const char* part : {"prefilled", "hit rate", "TTFT", "TPOT"}) CHECK(holds(said, part));

  Words uncached = words;
  uncached.insert(uncached.end(), {"--stage", "uncached"});
  const std::string recomputed = output_of(uncached, input);
  CHECK(reused_tokens(recomputed) == std::vector<index_t>(4, 0));
  const auto answers = [](const std::string& chat) {  // all lines but the report
    std::string kept;
    for (std::size_t start = 0; start < chat.size();) {
      const std::size_t end = chat.find('\n', start) + 1;
      if (chat[start] != '[') kept += chat.substr(start, end - start);
      start = end;
    }
    return kept;
  };
  CHECK(answers(recomputed) == answers(said));
}

TEST_CASE("chat: what does not fit is an error when nobody sits there", "[cli]") {
  const Finished finished = kvbook({"chat", "--model", tiny, "--capacity", "16", "--max-new-tokens", "6"}, "Tell me a very long story about a dog, a cat and a bird.\n");
  CHECK(finished.exit_code == 1);
  CHECK(holds(finished.err, "kvbook: error: "));
  CHECK(holds(finished.err, "room for 16: this turn alone is too long"));
  const Finished went_on = kvbook({"chat", "--model", tiny, "--capacity", "16", "--max-new-tokens", "6"}, "Tell me a very long story about a dog, a cat and a bird.\n/reset\nHello\n");
  CHECK(went_on.exit_code == 1);
  CHECK(reused_tokens(went_on.out).size() == 1);  // the turn after it was answered
  CHECK(output_of({"chat", "--model", tiny}, "") == "");
  CHECK(output_of({"chat", "--model", tiny}, "/quit\nnot read\n") == "");
  CHECK(holds(failure_of({"chat", "--model", tiny, "--capacity", "100000"}, 1), "context"));
}

TEST_CASE("chat uses all the room there is, and then refuses or forgets whole turns", "[cli]") {
  const TemporaryDirectory model;  // the shipped one, with a template that knows what a system says
  for (const auto& entry : std::filesystem::directory_iterator(tiny))
    std::filesystem::copy(entry.path(), model.path() / entry.path().filename());
  model.write("chat_template.jinja", "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:");
  const std::string input = "Tell me a story about a dog.\nAnd then what did it do?\nWhy?\nTell me more about the dog and the cat.\n";
  const auto chat = [&](const Words& more) {
    Words words{"chat", "--model", model.path().string(), "--capacity", "75", "--max-new-tokens", "20", "--temperature", "0", "--system", "You are kind."};
    words.insert(words.end(), more.begin(), more.end());
    return kvbook(words, input);
  };
  const Finished refused = chat({});
  CAPTURE(refused.out, refused.err);
  CHECK(refused.exit_code == 1);
  CHECK(holds(refused.out, "[cut: the conversation fills all of its 75 tokens]"));  // less room than an answer might need is no error
  CHECK(holds(refused.err, "room for 75: --when-full forget"));

  const Finished forgot = chat({"--when-full", "forget"});
  CHECK(forgot.exit_code == 0);
  CHECK(forgot.err.empty());
  const std::vector<index_t> reused = reused_tokens(forgot.out);
  CAPTURE(forgot.out);
  REQUIRE(reused.size() == 4);
  CHECK(holds(forgot.out, " turn forgotten]"));
  CHECK(reused.back() > 5);  // what the system said is still in front, and still held
  const auto answer = [](const std::string& out) { return out.substr(0, out.find('[')); };
  CHECK(answer(chat({"--when-full", "forget", "--stage", "uncached"}).out) == answer(forgot.out));

  const Finished streamed = kvbook({"chat", "--model", tiny, "--stage", "streaming", "--budget", "40", "--max-new-tokens", "20"}, input);
  CHECK(streamed.exit_code == 0);
  CHECK(reused_tokens(streamed.out).size() == 4);
  CHECK(holds(failure_of({"chat", "--model", tiny, "--when-full", "panic"}, 2), "--when-full must be refuse or forget, not 'panic'"));
}

TEST_CASE("serve: other machines need a key, and only stages with pages serve", "[cli]") {
  CHECK(holds(failure_of({"serve", "--host", "0.0.0.0"}, 2), "that needs --api-key"));
  CHECK(holds(failure_of({"serve", "--host", "::"}, 2), "that needs --api-key"));
  CHECK(holds(failure_of({"serve", "--api-key", ""}, 2), "--api-key is empty"));
  CHECK(holds(failure_of({"serve", "--port", "65536"}, 2), "--port must be at most 65535"));
  CHECK(holds(failure_of({"serve", "--stage", "concat"}, 2), "concat"));
  CHECK(holds(failure_of({"serve", "--host", "256.1.1.1", "--api-key", "k"}, 1), "cannot listen on 256.1.1.1"));
}

TEST_CASE("serve: SIGTERM ends it, and that is no failure", "[cli]") {
  const TemporaryDirectory directory;
  const Finished server = run_program({"/bin/sh", "-c", R"("$0" serve --port 0 >"$1" & server=$!
    until grep -q listening "$1"; do kill -0 $server || exit 9; sleep 0.05; done
    kill -TERM $server; wait $server)", KV_PROGRAM, (directory.path() / "out").string()});
  CAPTURE(server.err);
  CHECK(server.exit_code == 0);
  CHECK(holds(contents_of(directory.path() / "out"), "listening on http://127.0.0.1:"));
}

TEST_CASE("traffic: a prefix that requests share is found again", "[cli]") {
  const Finished run = run_program({KV_PROGRAM, "traffic", "--model", tiny, "--requests", "8", "--prefixes", "1", "--prefix-tokens",
                                    "64", "--prompt-tokens", "16", "--new-tokens", "2", "--batch", "2", "--rate", "1000", "--json"});
  CAPTURE(run.err);
  REQUIRE(run.exit_code == 0);
  CHECK(Json::parse(run.out, "traffic").at("hit_rate").number() > 0.4);
}

TEST_CASE("tokenise gives the ids of Hugging Face tokenizers, from a text, a file or what comes in", "[cli]") {
  const TemporaryDirectory files;
  const std::string file = (files.path() / "text").string();
  for (const char* name : {"llama3", "llama2", "qwen"}) {
    const std::filesystem::path model = std::filesystem::path(KV_GOLDEN) / "tokenizers" / name;
    const Json cases = Json::read(model / "cases.json");
    for (index_t i = 1; i < cases.length(); i += 9) {
      const std::string text = cases.at(i).at("text").text();
      if (text.empty() || text.find('\0') != text.npos) continue;
      CAPTURE(name, text);
      files.write("text", text);
      const Words base{"tokenise", "--model", model.string(), "--json"};
      const auto ids = [&](Words words, const std::string& input) {
        const Json found = Json::parse(output_of(words, input), "output").at("ids");
        std::vector<index_t> result;
        for (index_t n = 0; n < found.length(); ++n) result.push_back(found.at(n).size());
        return result;
      };
      const auto with = [&](const Words& more) {
        Words words = base;
        words.insert(words.end(), more.begin(), more.end());
        return words;
      };
      const Json wanted = cases.at(i).at("ids_with_special");
      std::vector<index_t> expected;
      for (index_t n = 0; n < wanted.length(); ++n) expected.push_back(wanted.at(n).size());
      if (text[0] != '@') CHECK(ids(with({"--", text}), "") == expected);
      CHECK(ids(with({"@" + file}), "") == expected);
      CHECK(ids(base, text) == expected);
    }
  }
  CHECK(output_of({"tokenise", "--model", (std::filesystem::path(KV_GOLDEN) / "tokenizers/llama3").string(), " a"}) == "631\t<|begin_of_text|>\n451\t\u0120a\n");
  CHECK(holds(failure_of({"tokenise", "--model", tiny, "two", "words"}, 2), "one TEXT only"));
  CHECK(holds(failure_of({"tokenise", "--model", tiny, "@/nonexistent"}, 1), "/nonexistent"));
  CHECK(holds(failure_of({"tokenise", "--model", tiny, "--nonsense"}, 2), "unknown option"));
}

// ---- 8-bit integers, and what they cost ----

TEST_CASE("quantise: a checkpoint that every command runs, and inspect shows", "[cli]") {
  const TemporaryDirectory results;
  const std::string output = (results.path() / "int8").string();
  const std::string said = output_of({"quantise", "--model", tiny, "--output", output});
  CHECK(said.starts_with(output + ": 35 matrices in 8-bit integers, 12 tensors as they were\n"));
  CHECK(files_in(results.path()) == Words{"int8"});
  CHECK(holds(output_of({"inspect", "--model", output}), "35 in I8, "));
  const Json after = json_of({"inspect", "--model", output, "--json"}), before = json_of({"inspect", "--model", tiny, "--json"});
  CHECK(after.at("parameters").size() == before.at("parameters").size());
  CHECK(after.at("weight_bytes").size() < before.at("weight_bytes").size());
  const Json dtypes = after.at("weight_bytes_by_dtype");
  CHECK(dtypes.at("I8").size() + dtypes.at("F32").size() + dtypes.at("BF16").size() == after.at("weight_bytes").size());
  CHECK(holds(output_of({"generate", "--model", output, "--prompt", "The cat", "--max-new-tokens", "4"}), "The cat"));
  const Json runs = json_of({"compare", "--model", output, "--max-new-tokens", "8", "--json"}).at("runs");
  for (index_t i = 0; i < runs.length(); ++i) CHECK(runs.at(i).at("promise_holds").flag());
}

TEST_CASE("quantise: what cannot be done leaves nothing", "[cli]") {
  const SmallCheckpoint files;
  const TemporaryDirectory results;
  const std::string model = files.path().string(), output = (results.path() / "out").string();
  const auto refusal = [&](const std::string& from, const std::string& to) {
    const Words before = files_in(results.path());
    const std::string message = failure_of({"quantise", "--model", from, "--output", to}, 1);
    CHECK(files_in(results.path()) == before);
    return message;
  };
  CHECK(holds(refusal("/nonexistent", output), "/nonexistent"));
  CHECK(holds(refusal(model, "/nonexistent/out"), "/nonexistent/out: cannot be written"));
  CHECK(holds(refusal(model, results.path().string()), "exists already, and nothing is overwritten"));
  output_of({"quantise", "--model", model, "--output", output});
  CHECK(holds(refusal(model, output), "exists already"));
  CHECK(holds(refusal(output, output + "2"), "has a quantization_config: its weights are rounded already"));
  std::filesystem::remove(results.path() / "out" / "model.safetensors");
  const std::string weights = contents_of(files.path() / "model.safetensors");
  files.directory().write("model.safetensors", weights.substr(0, weights.size() - 100));
  CHECK(holds(refusal(model, output + "2"), "model.safetensors"));
}

TEST_CASE("perplexity: the same from every exact stage, and as the logits say", "[cli]") {
  const TemporaryDirectory results;
  const std::string text = "Once upon a time, there was a fox named Tom. Tom liked to eat apple pie.";
  const std::string a = results.write("a.txt", text).string(), b = results.write("b.txt", "A dog.").string();
  const Json json = json_of({"perplexity", "--model", tiny, "--stage", "uncached", "--file", a + "," + b, "--json"});
  const std::string table = output_of({"perplexity", "--model", tiny, "--file", a + "," + b});
  CHECK(holds(table, "\n" + a));
  CHECK(holds(table, "\nall "));
  for (const std::string& stage : stage_names(true)) CHECK(output_of({"perplexity", "--model", tiny, "--stage", stage, "--file", a + "," + b, "--threads", "1"}) == table);

  const Tokenizer tokenizer(tiny + "/tokenizer.json");
  const std::vector<Token> tokens = tokenizer.encode_with_special(text);
  const std::string output = (results.path() / "logits.npy").string();
  output_of({"logits", "--model", tiny, "--stage", "3", "--tokens", list(tokens), "--output", output});
  const Tensor<2> logits = read_npy_f32(output);
  double loss = 0;
  for (index_t t = 0; t + 1 < tokens.size(); ++t) {
    double sum = 0;
    for (index_t v = 0; v < logits.shape(1); ++v) sum += std::exp(static_cast<double>(logits(t, v)));
    loss += std::log(sum) - static_cast<double>(logits(t, static_cast<index_t>(tokens[t + 1])));
  }
  loss /= static_cast<double>(tokens.size() - 1);
  const Json file = json.at("files").at(index_t{0});
  CHECK(file.at("file").text() == a);
  CHECK(file.at("tokens").size() == tokens.size());
  CHECK(file.at("predictions").size() == tokens.size() - 1);
  CHECK(file.at("loss").number() == Approx(loss).epsilon(1e-12));
  CHECK(file.at("perplexity").number() == Approx(std::exp(loss)).epsilon(1e-12));
  const Json other = json.at("files").at(index_t{1});
  const double both = file.at("loss").number() * file.at("predictions").number() + other.at("loss").number() * other.at("predictions").number();
  CHECK(json.at("predictions").size() == file.at("predictions").size() + other.at("predictions").size());
  CHECK(json.at("loss").number() == Approx(both / json.at("predictions").number()));
  CHECK(json.at("perplexity").number() == Approx(std::exp(json.at("loss").number())));
  CHECK(json.at("window").size() == 1024);
  CHECK(json_of({"perplexity", "--model", tiny, "--file", a, "--window", "5", "--json"}).at("loss").number() > loss);
}

TEST_CASE("perplexity: files that say nothing, and windows that do not fit", "[cli]") {
  const TemporaryDirectory texts;
  const std::string good = texts.write("good.txt", "The cat sat.").string(), empty = texts.write("empty.txt", "").string();
  const auto refusal = [&](const std::string& files, const Words& more = {}) {
    Words words{"perplexity", "--model", tiny, "--file", files};
    words.insert(words.end(), more.begin(), more.end());
    return failure_of(words, 1);
  };
  CHECK(holds(refusal(good + "," + empty), "empty.txt: is empty, expected text"));
  CHECK(holds(refusal(good + ",/nonexistent.txt"), "/nonexistent.txt"));
  CHECK(holds(refusal(good, {"--window", "1025"}), "context of 1024"));
  CHECK(holds(refusal(good, {"--stage", "absorbed"}), "does not run on"));
  const SmallCheckpoint no_tokenizer;
  CHECK(holds(failure_of({"perplexity", "--model", no_tokenizer.path().string(), "--file", good}, 1), "tokenizer.json"));
}

TEST_CASE("an installed program has its models beside it", "[cli]") {
  const TemporaryDirectory prefix;
  std::filesystem::create_directories(prefix.path() / "bin");
  std::filesystem::create_directories(prefix.path() / "share/kvbook");
  std::filesystem::copy_file(KV_PROGRAM, prefix.path() / "bin/kvbook");
  std::filesystem::create_directory_symlink(std::filesystem::path(KV_DATA) / "tiny-mla", prefix.path() / "share/kvbook/tiny-gqa");
  const Finished finished = run_program({(prefix.path() / "bin/kvbook").string(), "inspect"});
  CHECK(finished.exit_code == 0);
  CHECK(holds(finished.out, "attention MLA"));
}
