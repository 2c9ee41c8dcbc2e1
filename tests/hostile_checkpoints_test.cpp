/// The shipped models with one file changed, by mistake or on purpose: each is refused in one line, at once, in little memory.
#include <algorithm>
#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

#include "common/text/utf8.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/program.hpp"
#include "tests/support/sanitized.hpp"
#include "tests/support/temporary.hpp"

using namespace kv;
using namespace kv::test;

namespace fs = std::filesystem;

namespace {

using Words = std::vector<std::string>;

const Words generate{"generate", "--prompt", "Once upon a time", "--max-new-tokens", "2"};
const Words generate_more{"generate", "--prompt", "Once upon a time there was a fox named Tom, and a dog, and a cat named Kate, and they all had a very long walk", "--max-new-tokens", "2"};
const Words chat{"chat"};
const Words needle{"needle", "--lengths", "64", "--depths", "50"};
const Words inspect{"inspect"};

struct Hostile {
  std::string model, file;
  std::string old_text, new_text;  ///< the first of the one becomes the other; "": the whole file is the other
  std::string says;                ///< part of the message
  Words command = generate;
  std::uintmax_t bytes = 0;        ///< that the file is made to have, with zeroes; 0: as it is
};

std::string repeated(std::string_view piece, std::size_t times) {
  std::string text;
  for (std::size_t i = 0; i < times; ++i) text += piece;
  return text;
}

std::string length_field(std::uint64_t value) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(value >> (8 * i) & 0xFF);
  return bytes;
}

void change(const fs::path& directory, const Hostile& hostile) {
  const fs::path file = directory / hostile.file;
  std::string text = hostile.new_text;
  if (!hostile.old_text.empty()) {
    text = contents_of(file);
    const std::size_t at = text.find(hostile.old_text);
    REQUIRE(at != text.npos);
    text.replace(at, hostile.old_text.size(), hostile.new_text);
  }
  fs::remove(file);
  std::ofstream(file, std::ios::binary) << text;
  if (hostile.bytes > 0) fs::resize_file(file, hostile.bytes);  // not in this program's memory, which the next one inherits
  if (hostile.file == "model.safetensors.index.json") fs::remove(directory / "model.safetensors");
}

void require_refused(const Hostile& hostile) {
  const TemporaryDirectory directory;
  for (const auto& entry : fs::directory_iterator(std::string(KV_DATA) + "/" + hostile.model))
    fs::create_symlink(entry.path(), directory.path() / entry.path().filename());
  change(directory.path(), hostile);
  Words words{KV_PROGRAM, hostile.command[0], "--model", directory.path().string()};
  words.insert(words.end(), hostile.command.begin() + 1, hostile.command.end());
  const Finished finished = run_program(words, "Hello\n");
  CAPTURE(hostile.model, hostile.file, hostile.old_text.substr(0, 80), hostile.new_text.substr(0, 80), finished.err, finished.out);
  CHECK(finished.exit_code == 1);
  CHECK(finished.err.starts_with("kvbook: error: "));
  CHECK(std::ranges::count(finished.err, '\n') == 1);
  CHECK(finished.err.ends_with("\n"));
  CHECK(finished.err.size() < 700);
  CHECK(std::ranges::none_of(finished.err, [](char c) { return c == '\x1B' || c == '\r'; }));
  CHECK(replace_invalid_utf8(finished.err) == finished.err);
  CHECK(holds(finished.err, hostile.says));
  if (sanitized) return;
  CHECK(finished.cpu_seconds < 1);  // of the processor: CI may be busy
  CHECK(finished.peak_bytes < 200'000'000);
}

void require_refused(const std::vector<Hostile>& table) {
  for (const Hostile& hostile : table) require_refused(hostile);
}

}  // namespace

TEST_CASE("hostile config.json: sizes that nothing has", "[hostile]") {
  const auto gqa = [](const std::string& from, const std::string& to, const std::string& says) { return Hostile{"tiny-gqa", "config.json", from, to, says}; };
  const auto mla = [](const std::string& from, const std::string& to, const std::string& says) { return Hostile{"tiny-mla", "config.json", from, to, says}; };
  require_refused({
      gqa(R"("num_hidden_layers": 5)", R"("num_hidden_layers": 2000000000)", "num_hidden_layers is 2000000000"),
      gqa(R"("num_hidden_layers": 5)", R"("num_hidden_layers": 5.5)", "num_hidden_layers is a fraction"),
      gqa(R"("num_hidden_layers": 5)", R"("num_hidden_layers": 60000)", "model.layers.5."),
      gqa(R"("num_attention_heads": 6)", R"("num_attention_heads": 4611686018427387904)", "num_attention_heads"),
      gqa(R"("num_attention_heads": 6)", R"("num_attention_heads": 0)", "num_attention_heads is 0"),
      gqa(R"("num_key_value_heads": 2)", R"("num_key_value_heads": 4)", "no multiple of num_key_value_heads"),
      gqa(R"("num_key_value_heads": 2)", R"("num_key_value_heads": -2)", "is negative: -2"),
      gqa(R"("head_dim": 32)", R"("head_dim": 33)", "head_dim"),
      gqa(R"("hidden_size": 192)", R"("hidden_size": "192")", "hidden_size is text"),
      gqa(R"("vocab_size": 2048)", R"("vocab_size": 1099511627776)", "vocab_size"),
      gqa(R"("max_position_embeddings": 1024)", R"("max_position_embeddings": 0)", "max_position_embeddings"),
      gqa(R"("rms_norm_eps": 1e-05)", R"("rms_norm_eps": -1)", "rms_norm_eps is -1"),
      gqa(R"("rms_norm_eps": 1e-05)", R"("rms_norm_eps": NaN)", "not valid JSON"),
      gqa(R"("rope_theta": 500000.0)", R"("rope_theta": 0)", "rope_theta is 0"),
      gqa(R"("rope_theta": 500000.0)", R"("rope_theta": 1e999)", "number overflow"),
      mla(R"("n_routed_experts": 16)", R"("n_routed_experts": 2000000000)", "model.layers.1.mlp.gate.weight"),
      mla(R"("num_experts_per_tok": 4)", R"("num_experts_per_tok": 17)", "more than the 16 experts"),
      mla(R"("n_group": 4)", R"("n_group": 3)", "does not divide 16 experts"),
      mla(R"("n_shared_experts": 1)", R"("n_shared_experts": 2000000000)", "shared_experts"),
      mla(R"("first_k_dense_replace": 1)", R"("first_k_dense_replace": 9223372036854775807)", "first_k_dense_replace"),
      mla(R"("moe_layer_freq": 1)", R"("moe_layer_freq": 0)", "moe_layer_freq"),
      mla(R"("kv_lora_rank": 64)", R"("kv_lora_rank": 0)", "kv_lora_rank"),
      mla(R"("qk_rope_head_dim": 16)", R"("qk_rope_head_dim": 15)", "qk_rope_head_dim is 15"),
      mla(R"("routed_scaling_factor": 2.5)", R"("routed_scaling_factor": 1e300)", "routed_scaling_factor"),
      mla(R"("beta_fast": 32)", R"("beta_fast": 0)", "rope_scaling.beta_fast is 0"),
      mla(R"("original_max_position_embeddings": 512)", R"("original_max_position_embeddings": -1)", "original_max_position_embeddings"),
      mla(R"("scoring_func": "sigmoid")", R"("scoring_func": "tanh")", "scoring_func 'tanh'"),
  });
}

TEST_CASE("hostile config.json: text that is none, or too much", "[hostile]") {
  const auto gqa = [](const std::string& from, const std::string& to, const std::string& says) { return Hostile{"tiny-gqa", "config.json", from, to, says}; };
  require_refused({
      gqa(R"("silu")", R"("gelu\u001b[2J\n\u202e")", "hidden_act is 'gelu?[2J??'"),
      gqa(R"("LlamaForCausalLM")", "\"" + std::string(1'000'000, 'A') + "\"", "architectures names AAAA"),
      gqa(R"("LlamaForCausalLM")", "\"\u202Enihton\u2066\"", "architectures names ?nihton?"),
      gqa(R"("use_cache": true)", R"("vocab_size": 2048)", "\"vocab_size\" appears twice"),
      gqa("null", repeated("[", 100'000), "nested deeper than 64 levels"),
      gqa("null", "null\xFF", "not valid JSON"),
      gqa("null", std::string("null\0", 5), "zero byte"),
      {"tiny-gqa", "config.json", "null", "null", "the most for a file of JSON", generate, 100'000'000},
      {"tiny-gqa", "tokenizer.json", "null", "null", "the most for a file of JSON", generate, 100'000'000},
      gqa("null", "[1]", "rope_scaling is a list"),
      gqa("", "<!DOCTYPE html><html><body>Entry not found</body></html>", "is a web page"),
      gqa("", "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 655\n", "Git LFS pointer"),
      gqa("", "[]", "is a list, expected an object"),
  });
}

TEST_CASE("hostile safetensors: headers that lie", "[hostile]") {
  const auto gqa = [](const std::string& from, const std::string& to, const std::string& says) { return Hostile{"tiny-gqa", "model.safetensors", from, to, says}; };
  const std::string length = length_field(5040);
  require_refused({
      gqa(length, length_field(std::uint64_t{1} << 63), "its header would have 9223372036854775808 bytes"),
      gqa(length, length_field(3'990'577), "is truncated"),
      gqa(length, length_field(0), "no safetensors file"),
      gqa("[3985152,3985536]", "[3985152,9985536]", "'model.norm.weight' lies outside the file"),
      gqa("[3985152,3985536]", "[3985536,3985152]", "ends before it begins"),
      gqa("[786432,786816]", "[786431,786815]", "inside the tensor before it"),
      gqa(R"("shape":[2048,192])", R"("shape":[9e18,9e9])", "embed_tokens"),
      gqa(R"("shape":[192],"data_offsets":[3985152)", R"("shape":[-92],"data_offsets":[3985152)", "is negative: -92"),
      gqa(R"("shape":[64,192],"data_offsets":[1229568)", R"("shape":[192,64],"data_offsets":[1229568)", "has shape (192,64), expected (64,192)"),
      gqa("\"model.norm.weight\"", "\"model.morn.weight\"", "'model.norm.weight' is missing"),
      gqa("\"model.layers.0.input_layernorm.weight\"", "\"model.layers.1.input_layernorm.weight\"", "appears twice"),
      gqa("", "GGUF" + std::string(100, '\0'), "GGUF"),
      gqa("", "short", "only 5 bytes"),
  });
}

TEST_CASE("hostile index: shards that lead elsewhere", "[hostile]") {
  const auto index = [](const std::string& map, const std::string& says) { return Hostile{"tiny-gqa", "model.safetensors.index.json", "", "{\"weight_map\":" + map + "}", says}; };
  require_refused({
      index(R"({"model.norm.weight":"../model.safetensors"})", "not the plain name"),
      index(R"({"model.norm.weight":"/etc/passwd"})", "not the plain name"),
      index(R"({"model.norm.weight":"model-00001-of-00002.safetensors"})", "which is missing"),
      index(R"({"model.norm.weight":")" + std::string(100'000, 'x') + R"(.safetensors"})", "weight_map[\"model.norm.weight\"]"),
      index("{}", "'model.embed_tokens.weight' is missing"),
      index("[]", "weight_map is a list"),
  });
}

TEST_CASE("hostile tokenizer.json: ids, patterns and texts without end", "[hostile]") {
  const auto file = [](const std::string& from, const std::string& to, const std::string& says) { return Hostile{"tiny-gqa", "tokenizer.json", from, to, says}; };
  const auto steps = [](const std::string& step) { return "[" + repeated(step + ",", 11) + step + "]"; };
  require_refused({
      file("\"id\": 4,", "\"id\": 4294967300,", "too large for a token"),
      file("\"id\": 4,", "\"id\": -4,", "is negative: -4"),
      file("\"Ġal\": 2047", "\"Ġal\": 2046", "which another token has"),
      file("\"Ġ t\"", "\"Ġt\"", "merges[0] is not a pair"),
      file("\"Ġ t\"", "\"Ġ zzzzzz\"", "needs a token that model.vocab lacks"),
      file("\"BPE\"", "\"Unigram\"", "'Unigram', which is not supported"),
      file("(?i:", "(?i:\\\\C|", "not supported in patterns"),
      file("(?i:", "(?i:(?:(?:a{1000}){1000}){1000}|", "too large a pattern"),
      file("(?i:", repeated("(", 50'000) + repeated(")", 50'000) + "(?i:", "pattern of 100"),
      {"tiny-gqa", "tokenizer.json", "(?i:", "(?:(?:[a-z]|[a-z ])+)+\\\\x00|(?i:", "too many steps", generate_more},
      file("\"normalizer\": null", R"("normalizer": {"type": "Sequence", "normalizers": )" + steps(R"({"type": "Replace", "pattern": {"String": "n"}, "content": "nnnnnnnnnn"})") + "}", "makes too long a text"),
      file("\"type\": \"ByteLevel\",\n  \"add_prefix_space\": false,\n  \"trim_offsets\": true,\n  \"use_regex\": false\n }", R"("type": "Sequence", "decoders": )" + steps(R"({"type": "Replace", "pattern": {"Regex": "."}, "content": "aaaaaaaaaa"})") + "}", "decoder"),
      file("\"ids\": [\n     1\n    ]", "\"ids\": [9999999]", "9999999, which does not exist"),
      file("\"single\": [", "\"single\": [" + repeated(R"({"SpecialToken":{"id":"<|bos|>","type_id":0}},)", 2000), "more than 256 tokens"),
      file("\"content\": \"<|user|>\"", "\"content\": \"\"", "content is empty"),
  });
}

TEST_CASE("hostile generation_config.json, chat template and needle.json", "[hostile]") {
  const auto generation = [](const std::string& from, const std::string& to, const std::string& says) { return Hostile{"tiny-gqa", "generation_config.json", from, to, says}; };
  const auto talk = [](const std::string& to, const std::string& says) { return Hostile{"tiny-gqa", "tokenizer_config.json", "{{ bos_token }}", to, says, chat}; };
  const auto task = [](const std::string& from, const std::string& to, const std::string& says) { return Hostile{"tiny-gqa", "needle.json", from, to, says, needle}; };
  require_refused({
      generation("\"eos_token_id\": 2", "\"eos_token_id\": 4294967298", "eos_token_id is no token id"),
      generation("\"do_sample\": false", "\"do_sample\": true, \"temperature\": -1", "temperature"),
      generation("\"do_sample\": false", "\"repetition_penalty\": 0", "repetition_penalty"),
      generation("\"do_sample\": false", "\"suppress_tokens\": [4294967296]", "suppress_tokens[0] is no token id"),
      generation("\"do_sample\": false", "\"num_beams\": 4", "num_beams"),
      generation("\"do_sample\": false", R"("\u202e\u001b[31mx": 4)", "is not known"),
      talk("{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}", "more work or memory"),
      talk("{{ 'a' * 10000000000 }}", "more work or memory"),
      talk("{{ range(10000000000) | list | length }}", "more work or memory"),
      talk("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "nested deeper"),
      talk("{{ " + repeated("(", 20'000) + "1" + repeated(")", 20'000) + " }}", "nested deeper"),
      talk("{% include '/etc/passwd' %}", "'include' is not supported"),
      talk("{% if true %}", "{% endif %} is missing"),
      task("{}.", "{} {}.", "must have one {}"),
      task("\" {}\"", "7", "answer is a whole number"),
      task("", "[]", "is a list, expected an object"),
      {"tiny-gqa", "config.json", "\"head_dim\": 32", "\"head_dim\": 4611686018427387904", "head_dim", inspect},
  });
}
