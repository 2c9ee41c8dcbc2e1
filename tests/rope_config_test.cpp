/// What config.json says about RoPE.
#include <cmath>

#include "chapters/models/rope_config.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/temporary.hpp"

using namespace kv;

namespace {

/// Of a Llama, unless the members name another architecture.
Rope read(std::string members, index_t width = 64) {
  if (members.find("architectures") == members.npos)
    members.insert(1, members == "{}" ? R"("architectures": ["LlamaForCausalLM"])" : R"("architectures": ["LlamaForCausalLM"], )");
  return rope_config(Json::parse(members, "config.json"), width);
}
std::string read_error(const std::string& members, index_t width = 64) { return error_of([&] { read(members, width); }); }

Rope plain_rope(index_t width) {
  Rope rope;
  for (const double frequency : rope_frequencies(width, 10000.0)) rope.frequencies.push_back(static_cast<float>(frequency));
  return rope;
}

}  // namespace

TEST_CASE("config.json: plain, in both spellings", "[rope]") {
  const Rope older = read(R"({"rope_theta": 500000.0, "rope_scaling": null})");
  CHECK(older.frequencies[1] == Approx(std::pow(500000.0, -2.0 / 64.0)).epsilon(1e-6));
  CHECK(older.magnitude == 1.0f);
  CHECK(read(R"({"rope_parameters": {"rope_theta": 500000.0, "rope_type": "default"}})").frequencies == older.frequencies);
  CHECK(read("{}").frequencies == plain_rope(64).frequencies);  // 10000 where nothing is said
  CHECK(read("{}", 10).frequencies.size() == 5);
}

TEST_CASE("config.json: llama3, in both spellings", "[rope]") {
  const Rope older = read(R"({"rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", "factor": 8.0,
      "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}})", 128);
  const Rope newer = read(R"({"rope_parameters": {"rope_theta": 500000.0, "rope_type": "llama3", "factor": 8.0,
      "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}})", 128);
  CHECK(older.frequencies == newer.frequencies);
  CHECK(older.frequencies[0] == 1.0f);
  CHECK(older.frequencies[63] == Approx(std::pow(500000.0, -126.0 / 128.0) / 8.0).epsilon(1e-6));
  CHECK(older.magnitude == 1.0f);
}

TEST_CASE("config.json: linear divides every frequency", "[rope]") {
  const Rope found = read(R"({"rope_scaling": {"type": "linear", "factor": 4.0}})");
  for (index_t i = 0; i < 32; ++i) CHECK(found.frequencies[i] == Approx(plain_rope(64).frequencies[i] / 4.0).epsilon(1e-6));
}

TEST_CASE("config.json: YaRN reads mscale and mscale_all_dim, which may differ", "[rope]") {
  const auto magnitude = [](const std::string& more) {
    return read(R"({"rope_theta": 10000, "rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096)" +
                more + "}}").magnitude;
  };
  CHECK(magnitude(R"(, "mscale": 1.0, "mscale_all_dim": 1.0)") == 1.0f);
  CHECK(magnitude(R"(, "mscale": 1.0, "mscale_all_dim": 0.707)") == Approx(1.368888 / 1.260804).epsilon(1e-5));
  CHECK(magnitude("") == Approx(1.368888).epsilon(1e-5));  // plain YaRN
  CHECK(magnitude(R"(, "attention_factor": 1.25)") == 1.25f);
  const Rope found = read(R"({"rope_scaling": {"rope_type": "yarn", "factor": 40, "original_max_position_embeddings": 4096,
      "beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 0.707}})");
  CHECK(found.frequencies[10] == plain_rope(64).frequencies[10]);
  CHECK(found.frequencies[11] < plain_rope(64).frequencies[11]);
  CHECK(found.frequencies[22] > plain_rope(64).frequencies[22] / 40.0f * 1.5f);
  CHECK(found.frequencies[23] == Approx(plain_rope(64).frequencies[23] / 40.0f).epsilon(1e-6));
  const RopeTable table = found.table(std::vector<index_t>{0});
  CHECK(table.cos(0, 0) == found.magnitude);
}

TEST_CASE("config.json: what is not known or makes no sense is named", "[rope]") {
  CHECK(holds(read_error(R"({"rope_scaling": {"rope_type": "longrope", "factor": 4}})"), "'longrope' is not supported"));
  CHECK(holds(read_error(R"({"rope_scaling": {"type": "dynamic", "factor": 4}})"), "'dynamic'"));
  CHECK(holds(read_error(R"({"rope_scaling": {"type": "linear"}})"), "factor"));
  CHECK(holds(read_error(R"({"rope_scaling": {"type": "linear", "factor": 0}})"), "config.json"));
  CHECK(holds(read_error(R"({"rope_theta": 0})"), "rope_theta"));
  CHECK(holds(read_error(R"({"rope_theta": "big"})"), "rope_theta"));
  CHECK(holds(read_error("{}", 7), "even"));
  CHECK(holds(read_error("{}", 0), "even"));
  CHECK(holds(read_error(R"({"rope_scaling": {"rope_type": "llama3", "factor": 8}})"), "is missing"));
  CHECK(holds(read_error(R"({"rope_scaling": {"rope_type": "yarn", "factor": 40, "truncate": false,
      "original_max_position_embeddings": 4096}})"), "truncate"));
}

TEST_CASE("config.json: numbers that are no factors and no lengths are named", "[rope]") {
  const std::string llama3 = R"("rope_type": "llama3", "low_freq_factor": 1, "high_freq_factor": 4, "original_max_position_embeddings": 512)";
  const std::string yarn = R"("type": "yarn", "original_max_position_embeddings": 512)";
  const auto error = [](const std::string& scaling) { return read_error(R"({"rope_scaling": {)" + scaling + "}}"); };
  for (const std::string kind : {llama3, yarn, std::string(R"("type": "linear")")})
    for (const char* factor : {"0", "-8", "1e-300", "1e300", "null", "true"}) {
      CAPTURE(kind, factor);
      CHECK(holds(error(kind + ", \"factor\": " + factor), "rope_scaling.factor"));
    }
  CHECK(holds(error(R"("rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 1, "original_max_position_embeddings": 512)"),
              "low_freq_factor must be smaller"));
  for (const char* length : {"0", "-1", "1.5"}) {
    CAPTURE(length);
    CHECK(holds(error(R"("type": "yarn", "factor": 4, "original_max_position_embeddings": )" + std::string(length)), "original_max_position_embeddings"));
  }
  for (const char* field : {"attention_factor", "beta_fast", "beta_slow"})
    for (const char* value : {"0", "-1", "1e300"}) {
      CAPTURE(field, value);
      CHECK(holds(error(yarn + ", \"factor\": 4, \"" + field + "\": " + value), field));
    }
  CHECK(holds(error(yarn + R"(, "factor": 4, "mscale": -1)"), "mscale"));
  CHECK(holds(read_error(R"({"rope_theta": 1e300, "rope_scaling": null})"), "rope_theta"));
}

TEST_CASE("config.json: what is inside rope_parameters wins over what stands beside it", "[rope]") {
  const Rope expected = read(R"({"rope_theta": 500000.0})");
  CHECK(read(R"({"rope_theta": 10000.0, "rope_parameters": {"rope_theta": 500000.0}})").frequencies == expected.frequencies);
  CHECK(read(R"({"rope_theta": 500000.0, "rope_parameters": {"rope_type": "default"}})").frequencies == expected.frequencies);
  CHECK(read(R"({"rope_theta": 500000.0, "rope_parameters": null, "rope_scaling": {}})").frequencies == expected.frequencies);
  const Rope scaled = read(R"({"rope_theta": 500000.0, "rope_scaling": {"type": "linear", "factor": 2.0}})");
  CHECK(read(R"({"rope_theta": 500000.0, "rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": {"rope_theta": 20.0}})").frequencies ==
        scaled.frequencies);
  CHECK(holds(read_error(R"({"rope_parameters": {"full_attention": {"rope_theta": 1e6}}})"), "rope_parameters.full_attention"));
}

TEST_CASE("config.json: the original length beside the scaling wins over the one inside", "[rope]") {
  const auto with = [](const std::string& beside, const std::string& inside) {
    return read("{" + beside + R"("max_position_embeddings": 8192, "rope_scaling": {"type": "yarn", "factor": 4.0)" + inside + "}}").frequencies;
  };
  const std::vector<float> short_one = with("", R"(, "original_max_position_embeddings": 1024)");
  CHECK(with(R"("original_max_position_embeddings": 1024, )", R"(, "original_max_position_embeddings": 4096)") == short_one);
  CHECK(with("", "") == with("", R"(, "original_max_position_embeddings": 8192)"));
  CHECK(with("", "") != short_one);
}

TEST_CASE("config.json: without scaling, or with a kind that ignores them, mscale fields have no effect", "[rope]") {
  const auto factor = [](const std::string& scaling) {
    return softmax_factor(Json::parse(R"({"architectures": ["DeepseekV3ForCausalLM"], "rope_scaling": {)" + scaling + "}}", "config.json"));
  };
  CHECK(factor(R"("rope_type": "default", "factor": 4.0, "mscale_all_dim": 1.0)") == 1.0f);
  CHECK(factor(R"("factor": 4.0, "mscale_all_dim": 1.0)") == 1.0f);
  CHECK(factor(R"("type": "yarn", "factor": 4.0, "mscale_all_dim": 0)") == 1.0f);
  CHECK(factor(R"("type": "yarn", "factor": 4.0)") == 1.0f);
  CHECK(factor(R"("type": "yarn", "factor": 40.0, "mscale_all_dim": 1.0)") == Approx(1.8739).epsilon(1e-4));
}
