/// Checkpoints in 8-bit integers: written, read again, and run by every stage.
/// exact: the layers are Linear::quantised of the original, and exact stages stay equal. Others: the stage table's tolerance.
#include "chapters/studies/round_weights.hpp"

#include <cmath>
#include <cstring>

#include "chapters/studies/expert_usage.hpp"
#include "common/checkpoint/safetensors_writer.hpp"
#include "common/text/tokenizer.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/decoders.hpp"
#include "tests/support/equality.hpp"
#include "tests/support/model_oracle.hpp"
#include "tests/support/random.hpp"

using namespace kv;
using namespace kv::test;

namespace fs = std::filesystem;

namespace {

fs::path shipped(const std::string& name) { return fs::path(KV_DATA) / name; }

/// A checkpoint that was quantised into a directory of its own.
class QuantisedCopy {
 public:
  explicit QuantisedCopy(const fs::path& original) : original_(original) { report = quantise(Checkpoint(original), path()); }
  fs::path path() const { return directory_.path() / "int8"; }
  Checkpoint open() const { return Checkpoint(path()); }
  Checkpoint original() const { return Checkpoint(original_); }
  Quantised report{};

 private:
  TemporaryDirectory directory_;
  fs::path original_;
};

std::vector<std::string> files_in(const fs::path& directory) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory)) names.push_back(entry.path().filename().string());
  std::ranges::sort(names);
  return names;
}

bool same_bytes(const RawTensor& a, const RawTensor& b) {
  return a.dtype == b.dtype && a.shape == b.shape && a.data.size() == b.data.size() && std::memcmp(a.data.data(), b.data.data(), a.data.size()) == 0;
}

/// The same checkpoint with other tensors rounded than quantise() would: whatever ends like this.
void round_tensors(const Checkpoint& original, const std::string& ending, const fs::path& output) {
  for (const auto& entry : fs::directory_iterator(original.directory()))
    if (entry.path().filename() != "model.safetensors") fs::copy_file(entry.path(), output / entry.path().filename());
  std::vector<StoredTensor> tensors;
  for (const std::string& name : original.names()) {
    const RawTensor raw = original.raw(name);
    const bool rounded = name.ends_with(ending);
    tensors.push_back({name, rounded ? "I8" : raw.dtype, raw.shape, 0, rounded ? raw.shape[0] * raw.shape[1] : raw.data.size()});
    if (rounded) tensors.push_back({name + "_scale", "F32", {raw.shape[0]}, 0, raw.shape[0] * 4});
  }
  SafetensorsWriter writer(output / "model.safetensors", tensors);
  for (const std::string& name : original.names()) {
    const RawTensor raw = original.raw(name);
    if (!name.ends_with(ending)) {
      writer.write(name, 0, raw.data);
      continue;
    }
    const RoundedMatrix rounded = rounded_to_i8(original.matrix(name, raw.shape[0], raw.shape[1]));
    writer.write(name, 0, std::as_bytes(std::span(rounded.values)));
    writer.write(name + "_scale", 0, std::as_bytes(std::span(rounded.scales)));
  }
  writer.close();
}

void stages_keep_their_promise(const Checkpoint& checkpoint) {
  const std::vector<Token> tokens = random_tokens(41, model_sizes(checkpoint.config()).vocabulary, 5);
  const Tensor<2> expected = whole_logits(checkpoint, find_stage("uncached"), tokens);
  for (const Stage& stage : stages(family(checkpoint.config()))) {
    if (stage.equality.lossy) continue;
    CAPTURE(stage.name);
    Decoder decoder = make_decoder(checkpoint, stage, {.sequences = 1, .capacity = 41});
    const Tensor<2> found = logits_in_chunks(decoder, 0, tokens, {13, 1, 1, 20, 6});
    if (stage.equality.exact()) CHECK(exact(found, expected));
    else CHECK(close(found, expected, stage.equality.tolerance, stage.equality.reason));
  }
}

}  // namespace

TEST_CASE("quantise: layers are Linear::quantised of the original, the rest is the same", "[quantise]") {
  const auto model = GENERATE(as<std::string>(), "tiny-gqa", "tiny-mla");
  const QuantisedCopy copy(shipped(model));
  const Checkpoint before = copy.original(), after = copy.open();
  index_t rounded = 0;
  for (const std::string& name : before.names()) {
    CAPTURE(name);
    const RawTensor raw = before.raw(name);
    if (!is_rounded(name, raw.shape)) {
      CHECK(same_bytes(after.raw(name), raw));
      CHECK_FALSE(after.has(name + "_scale"));
      continue;
    }
    ++rounded;
    const index_t outputs = raw.shape[0], inputs = raw.shape[1];
    CHECK(after.raw(name).dtype == "I8");
    CHECK(after.raw(name + "_scale").shape == std::vector<index_t>{outputs, 1});
    const MatrixView original = before.matrix(name, outputs, inputs), read = after.matrix(name, outputs, inputs);
    for (index_t o = 0; o < outputs; ++o)
      for (index_t i = 0; i < inputs; ++i) REQUIRE(std::abs(read.at(o, i) - original.at(o, i)) <= 0.5001f * read.row_scales[o]);
    for (const index_t rows : {1, 40}) {
      const Tensor<2> x = random_tensor<2>({rows, inputs}, 3);
      CHECK(exact((*after.linear(name, outputs, inputs))(x), Linear::quantised(original)(x)));
    }
  }
  CHECK(rounded == (model == "tiny-gqa" ? 5 * 7 : 5 * 4 + 3 + 4 * 17 * 3 + 1));
  CHECK(copy.report.rounded == rounded);
  CHECK(copy.report.rounded + copy.report.copied == before.names().size());
  CHECK(after.names().size() == before.names().size() + rounded);
  CHECK(copy.report.bytes == after.bytes());
  CHECK(copy.report.bytes_before == before.bytes());
  CHECK(after.parameters() == before.parameters());
}

TEST_CASE("quantise: what stays is what the header promises", "[quantise]") {
  for (const char* name : {"model.embed_tokens.weight", "other_lm_head.weight", "model.layers.1.mlp.gate.weight", "model.layers.0.block_sparse_moe.gate.weight",
                           "model.layers.0.self_attn.kv_b_proj.weight", "model.layers.0.self_attn.q_proj.weight_scale"})
    CHECK_FALSE(is_rounded(name, {8, 8}));
  for (const char* name : {"lm_head.weight", "model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.kv_a_proj_with_mqa.weight", "model.layers.1.mlp.experts.3.gate_proj.weight",
                           "model.layers.1.mlp.shared_experts.down_proj.weight", "model.layers.0.block_sparse_moe.experts.0.w2.weight"})
    CHECK(is_rounded(name, {8, 8}));
  CHECK_FALSE(is_rounded("model.layers.0.self_attn.q_proj.weight", {8}));
}

TEST_CASE("quantise: other files are copied, config.json gains one member and keeps its text", "[quantise]") {
  const QuantisedCopy copy(shipped("tiny-mla"));
  CHECK(files_in(copy.path()) == files_in(shipped("tiny-mla")));
  for (const char* file : {"tokenizer.json", "tokenizer_config.json", "generation_config.json"})
    CHECK(contents_of(copy.path() / file) == contents_of(shipped("tiny-mla") / file));
  const std::string before = contents_of(shipped("tiny-mla") / "config.json"), after = contents_of(copy.path() / "config.json");
  CHECK(after.starts_with(before.substr(0, before.rfind('}') - 1)));
  const Json config = copy.open().config().at("quantization_config");
  CHECK(config.at("quant_method").text() == "compressed-tensors");
  CHECK(config.at("format").text() == "int-quantized");
  CHECK(config.at("config_groups").at("group_0").at("weights").at("strategy").text() == "channel");
  std::vector<std::string> ignored;
  for (index_t i = 0; i < config.at("ignore").length(); ++i) ignored.push_back(config.at("ignore").at(i).text());
  CHECK(ignored.size() == 5 + 4);
  CHECK(std::ranges::count(ignored, "lm_head") == 0);
  CHECK(std::ranges::count(ignored, "model.layers.0.self_attn.kv_b_proj") == 1);
  CHECK(std::ranges::count(ignored, "model.layers.4.mlp.gate") == 1);
}

TEST_CASE("quantise: an output matrix that is the embedding is named among what stays", "[quantise]") {
  const Json ignored = QuantisedCopy(shipped("tiny-gqa")).open().config().at("quantization_config").at("ignore");
  REQUIRE(ignored.length() == 1);
  CHECK(ignored.at(index_t{0}).text() == "lm_head");
}

TEST_CASE("quantise: every stage keeps its promise on rounded weights", "[quantise]") {
  const auto model = GENERATE(as<std::string>(), "tiny-gqa", "tiny-mla");
  CAPTURE(model);
  const QuantisedCopy copy(shipped(model));
  stages_keep_their_promise(copy.open());
}

// Single logits may differ much: where two experts are nearly equal, another one is chosen. The loss of a text may not.
TEST_CASE("quantise: rounding changes the logits, and hardly the loss of a text", "[quantise]") {
  const auto model = GENERATE(as<std::string>(), "tiny-gqa", "tiny-mla");
  const QuantisedCopy copy(shipped(model));
  const Tokenizer tokenizer(shipped(model) / "tokenizer.json");
  const std::vector<Token> tokens = part(tokenizer.encode(contents_of(shipped("held_out") / "story.txt")), 0, 500);
  const Tensor<2> rounded = whole_logits(copy.open(), find_stage("uncached"), tokens), original = whole_logits(copy.original(), find_stage("uncached"), tokens);
  CHECK_FALSE(exact(rounded, original));
  CHECK(mean_loss(rounded, tokens) != mean_loss(original, tokens));
  CHECK(std::abs(mean_loss(rounded, tokens) - mean_loss(original, tokens)) < 0.005);  // nats
}

// rel 1e-5: f32 against double, and the scale is applied to a sum, not to its terms.
TEST_CASE("quantise: the logits are those of the weights that were written", "[quantise]") {
  const SmallCheckpoint small(SmallModel{.qwen3 = GENERATE(false, true), .type = GENERATE(DType::f32, DType::bf16, DType::f16), .tied = GENERATE(false, true)});
  const QuantisedCopy copy(small.path());
  const std::vector<Token> tokens = random_tokens(23, 61, 7);
  CHECK(close(whole_logits(copy.open(), find_stage("uncached"), tokens), oracle::logits(copy.open(), tokens), 1e-5, "f32"));
}

TEST_CASE("integers where quantise() writes none are read right: the embedding, kv_b_proj, a gate", "[quantise]") {
  const auto [model, ending] = GENERATE(table<std::string, std::string>({{"tiny-gqa", "embed_tokens.weight"}, {"tiny-mla", "kv_b_proj.weight"}, {"tiny-mla", "mlp.gate.weight"}}));
  CAPTURE(model, ending);
  const TemporaryDirectory directory;
  const Checkpoint original(shipped(model));
  round_tensors(original, ending, directory.path());
  const Checkpoint rounded(directory.path());
  stages_keep_their_promise(rounded);
  if (model == "tiny-gqa") {
    const std::vector<Token> tokens = random_tokens(20, 2048, 8);
    CHECK(close(whole_logits(rounded, find_stage("uncached"), tokens), oracle::logits(rounded, tokens), 1e-5, "f32 against double"));
  }
}

TEST_CASE("quantise: a matrix of several pieces, a row of zeros, a misaligned file", "[quantise]") {
  const index_t F = 4100;  // times 1030: more than one piece
  const SmallCheckpoint small(SmallModel{.layers = 1, .width = 1030, .feed_forward_width = F});
  std::string file = contents_of(small.path() / "model.safetensors");
  std::uint64_t length;
  std::memcpy(&length, file.data(), sizeof length);
  file.insert(8 + length, " ");  // the header is one byte longer, the data begins at an odd byte
  ++length;
  std::memcpy(file.data(), &length, sizeof length);
  small.directory().write("model.safetensors", file);
  {
    const Checkpoint plain = small.open();
    const RawTensor up = plain.raw("model.layers.0.mlp.up_proj.weight");
    const auto offset = static_cast<std::size_t>(up.data.data() - plain.raw("model.embed_tokens.weight").data.data());
    std::memset(file.data() + 8 + length + offset + 4 * 1030 * 17, 0, 4 * 1030);
  }
  small.directory().write("model.safetensors", file);

  const QuantisedCopy copy(small.path());
  const Checkpoint after = copy.open(), before = small.open();
  const MatrixView read = after.matrix("model.layers.0.mlp.up_proj.weight", F, 1030);
  const RoundedMatrix expected = rounded_to_i8(before.matrix("model.layers.0.mlp.up_proj.weight", F, 1030));
  CHECK(std::memcmp(read.data, expected.values.data(), expected.values.size()) == 0);
  for (index_t o = 0; o < F; ++o) REQUIRE(read.row_scales[o] == expected.scales[o]);
  CHECK(read.row_scales[17] == 0.0f);
  CHECK(read.row_scales[16] > 0.0f);
}

TEST_CASE("quantise: shards become one file", "[quantise]") {
  const SmallCheckpoint whole;
  const TemporaryDirectory sharded;
  fs::copy_file(whole.path() / "config.json", sharded.path() / "config.json");
  std::string map;
  const Checkpoint checkpoint = whole.open();
  for (const bool first : {true, false}) {
    std::vector<StoredTensor> tensors;
    std::vector<std::string> names;
    for (index_t i = 0; i < checkpoint.names().size(); ++i)
      if ((i % 2 == 0) == first) names.push_back(checkpoint.names()[i]);
    const std::string shard = first ? "one.safetensors" : "two.safetensors";
    for (const std::string& name : names) {
      const RawTensor raw = checkpoint.raw(name);
      tensors.push_back({name, raw.dtype, raw.shape, 0, raw.data.size()});
      map += (map.empty() ? "" : ",") + ("\"" + name + "\":\"" + shard + "\"");
    }
    SafetensorsWriter writer(sharded.path() / shard, tensors);
    for (const std::string& name : names) writer.write(name, 0, checkpoint.raw(name).data);
    writer.close();
  }
  sharded.write("model.safetensors.index.json", "{\"weight_map\":{" + map + "}}");
  const QuantisedCopy of_whole(whole.path()), of_shards(sharded.path());
  CHECK(files_in(of_shards.path()) == std::vector<std::string>{"config.json", "model.safetensors"});
  CHECK(contents_of(of_shards.path() / "model.safetensors") == contents_of(of_whole.path() / "model.safetensors"));
}

TEST_CASE("quantise: nothing is left of what failed, and nothing is overwritten", "[quantise]") {
  const TemporaryDirectory results;
  const auto refusal = [&](const fs::path& model, const fs::path& output) {
    const std::vector<std::string> before = files_in(results.path());
    const std::string message = error_of([&] { quantise(Checkpoint(model), output); });
    CHECK(files_in(results.path()) == before);
    return message;
  };
  const SmallCheckpoint small;
  const fs::path out = results.path() / "out";

  results.write("file", "precious");
  CHECK(refusal(small.path(), results.path() / "file") == (results.path() / "file").string() + ": exists already, and nothing is overwritten; give another name or remove it");
  CHECK(contents_of(results.path() / "file") == "precious");
  fs::create_directory(results.path() / "empty");
  CHECK(holds(refusal(small.path(), results.path() / "empty"), "exists already"));
  CHECK(holds(refusal(small.path(), results.path() / "empty/"), "exists already"));
  fs::create_symlink("/nonexistent", results.path() / "link");
  CHECK(holds(refusal(small.path(), results.path() / "link"), "exists already"));
  CHECK(holds(refusal(small.path(), "/nonexistent/out"), "/nonexistent/out: cannot be written: No such file or directory"));

  // The last matrix: all others have been written when it is found.
  std::string file = contents_of(small.path() / "model.safetensors");
  const Checkpoint whole = small.open();
  const RawTensor last = whole.raw("model.layers.1.self_attn.v_proj.weight");
  const auto offset = file.find(std::string(reinterpret_cast<const char*>(last.data.data()), last.data.size()));
  REQUIRE(offset != file.npos);
  const float infinite = INFINITY;
  std::memcpy(file.data() + offset + 8, &infinite, 4);
  const SmallCheckpoint broken;
  broken.directory().write("model.safetensors", file);
  CHECK(refusal(broken.path(), out) == broken.path().string() + ": tensor 'model.layers.1.self_attn.v_proj.weight' has a weight that is not finite; it cannot be rounded");

  const QuantisedCopy once(small.path());
  CHECK(holds(refusal(once.path(), out), "has a quantization_config: its weights are rounded already"));
  CHECK(holds(refusal(fs::path(KV_GOLDEN) / "models/deepseek-v3-fp8", out), "rounded already"));
  const TemporaryDirectory silent;  // integers, but config.json does not say so
  round_tensors(small.open(), "q_proj.weight", silent.path());
  CHECK(holds(refusal(silent.path(), out), "q_proj.weight' is in i8: its weights are rounded already"));
  const SmallCheckpoint unknown(SmallModel{.config = {{"architectures", R"(["GPT2LMHeadModel"])"}}});
  CHECK(holds(refusal(unknown.path(), out), "'GPT2LMHeadModel' is not supported"));
}

TEST_CASE("quantise: a slash after the new name, and a config on one line", "[quantise]") {
  const SmallCheckpoint small;
  const TemporaryDirectory results;
  quantise(small.open(), results.path() / "out/");
  CHECK(files_in(results.path()) == std::vector<std::string>{"out"});
  CHECK(Checkpoint(results.path() / "out").config().at("quantization_config").has("ignore"));
}

TEST_CASE("of compressed-tensors, only what the book computes is accepted", "[quantise]") {
  const auto error = [](const std::string& quantization) {
    const SmallCheckpoint small(SmallModel{.config = {{"quantization_config", quantization}}});
    return error_of([&] { family(small.open().config()); });
  };
  const auto with = [&](const std::string& format, const std::string& weights, const std::string& more = "") {
    return error(R"({"quant_method": "compressed-tensors", "format": ")" + format + R"(", "config_groups": {"group_0": {"weights": {)" + weights +
                 R"(}, "input_activations": {"num_bits": 8, "dynamic": true}}})" + more + "}");
  };
  const std::string good = R"("num_bits": 8, "type": "int", "symmetric": true, "strategy": "channel")";
  CHECK(with("int-quantized", good) == "no error");
  CHECK(with("int-quantized", good, R"(, "kv_cache_scheme": null, "transform_config": {})") == "no error");
  CHECK(holds(with("pack-quantized", good), "quantization_config.format is 'pack-quantized'; of compressed-tensors, only 8-bit integers"));
  CHECK(holds(with("int-quantized", R"("num_bits": 4, "type": "int", "symmetric": true, "strategy": "channel")"), "num_bits is 4; only 8"));
  CHECK(holds(with("int-quantized", R"("num_bits": 8, "type": "float", "symmetric": true, "strategy": "channel")"), "type is 'float'"));
  CHECK(holds(with("int-quantized", R"("num_bits": 8, "type": "int", "symmetric": false, "strategy": "channel")"), "symmetric is false; zero points"));
  CHECK(holds(with("int-quantized", R"("num_bits": 8, "type": "int", "symmetric": true, "strategy": "group")"), "strategy is 'group'"));
  CHECK(holds(with("int-quantized", R"("num_bits": 8, "type": "int", "symmetric": true)"), "strategy is missing"));
  const std::string scheme = R"("num_bits": 8, "type": "float", "strategy": "tensor", "symmetric": true, "dynamic": false)";
  const auto with_scheme = [&](std::string_view old_text, std::string_view new_text) {
    std::string changed = scheme;
    changed.replace(changed.find(old_text), old_text.size(), new_text);
    return with("int-quantized", good, ", \"kv_cache_scheme\": {" + changed + "}");
  };
  CHECK(with_scheme("8", "8") == "no error");
  CHECK(holds(with_scheme("8", "4"), "kv_cache_scheme.num_bits is 4; of cache schemes, only static scales"));
  CHECK(holds(with_scheme("float", "int"), "type is 'int'"));
  CHECK(holds(with_scheme("tensor", "token"), "strategy is 'token'"));
  CHECK(holds(with_scheme("true", "false"), "symmetric is false"));
  CHECK(holds(with_scheme("\"dynamic\": false", "\"dynamic\": true"), "dynamic is true"));
  CHECK(holds(with_scheme(", \"dynamic\": false", ""), "dynamic is missing"));
  const std::string no_weights = R"({"quant_method": "compressed-tensors", "format": "dense", "config_groups": {}, "kv_cache_scheme": {)";
  CHECK(error(no_weights + scheme + "}}") == "no error");
  CHECK(holds(with("float-quantized", good, ", \"kv_cache_scheme\": {" + scheme + "}"), "format is 'float-quantized'"));
  CHECK(holds(with("int-quantized", good, R"(, "transform_config": {"R1": 1})"), "transform_config is set"));
  CHECK(holds(error(R"({"quant_method": "gptq"})"), "quant_method is 'gptq'"));
  CHECK(holds(error(R"({"quant_method": "fp8"})"), "fp8 is supported with weight_block_size only"));
}
