/// JSON: typed access, errors that lead to the place, and documents that must not be believed.
#include "common/files/json.hpp"

#include <cmath>
#include <limits>

#include "tests/support/catch.hpp"
#include "tests/support/temporary.hpp"

using namespace kv;

namespace {

Json parse(std::string_view text) { return Json::parse(text, "f.json"); }
std::string parse_error(std::string_view text) {
  return error_of([&] { parse(text); });
}

}  // namespace

TEST_CASE("values are read with their types", "[json]") {
  const Json json = parse(R"( {"text": "a\u00e9\n", "half": 0.5, "big": 1e6, "minus": -3, "yes": true, "no": false,
                              "nothing": null, "list": [1, [2, 3]], "inner": {"z": 1, "a": 2}, "": 7} )");
  CHECK(json.at("text").text() == "a\xc3\xa9\n");
  CHECK(json.at("half").number() == 0.5);
  CHECK(json.at("big").integer() == 1'000'000);
  CHECK(json.at("minus").integer() == -3);
  CHECK(json.at("minus").number() == -3.0);
  CHECK(json.at("yes").flag());
  CHECK_FALSE(json.at("no").flag());
  CHECK(json.at("nothing").is_null());
  CHECK(json.at("list").length() == 2);
  CHECK(json.at("list").at(1).at(1).size() == 3);
  CHECK(json.at("").size() == 7);
  CHECK(json.at("inner").keys() == std::vector<std::string>{"z", "a"});

  CHECK(json.is_object());
  CHECK(json.at("list").is_array());
  CHECK(json.at("text").is_text());
  CHECK(json.at("half").is_number());
  CHECK(json.at("minus").is_number());
  CHECK(json.at("yes").is_flag());
}

TEST_CASE("has() is false for null, so that a null setting counts as absent", "[json]") {
  const Json json = parse(R"({"a": null, "b": 0})");
  CHECK_FALSE(json.has("a"));
  CHECK(json.has("b"));
  CHECK_FALSE(json.has("c"));
}

TEST_CASE("whole numbers that do not fit are errors, not other numbers", "[json]") {
  CHECK(parse("9223372036854775807").integer() == std::numeric_limits<std::int64_t>::max());
  CHECK(parse("-9223372036854775808").integer() == std::numeric_limits<std::int64_t>::min());
  CHECK(parse("4.0").size() == 4);
  CHECK(error_of([] { parse("9223372036854775808").integer(); }) == "f.json is too large");
  CHECK(error_of([] { parse("1e300").integer(); }) == "f.json is too large");
  CHECK(error_of([] { parse("0.5").integer(); }) == "f.json is a fraction, expected a whole number");
  CHECK(error_of([] { parse("-1").size(); }) == "f.json is negative: -1");
}

TEST_CASE("an error names the document and the path", "[json]") {
  const Json json = parse(R"({"rope_scaling": {"factor": "40"}, "merges": [["a", "b"]], "vocab": {"a b": {"id": 1}}})");
  const Json scaling = json.at("rope_scaling");
  CHECK(scaling.at("factor").where() == "f.json: rope_scaling.factor");
  CHECK(json.where() == "f.json");
  CHECK(error_of([&] { scaling.at("beta"); }) == "f.json: rope_scaling.beta is missing");
  CHECK(error_of([&] { json.at("vocab_size"); }) == "f.json: vocab_size is missing");
  CHECK(error_of([&] { scaling.at("factor").number(); }) == "f.json: rope_scaling.factor is text, expected a number");
  CHECK(error_of([&] { json.at("merges").at(index_t{0}).at(2); }) ==
        "f.json: merges[0][2] is missing: the list has 2 elements");
  CHECK(error_of([&] { json.at("vocab").at("a b").at("id").text(); }) ==
        "f.json: vocab[\"a b\"].id is a whole number, expected text");
  CHECK(error_of([&] { json.at("merges").has("x"); }) == "f.json: merges is a list, expected an object");
  CHECK(error_of([&] { json.keys(), json.length(); }) == "f.json: is an object, expected a list");
}

TEST_CASE("an error stays one short line whatever the keys are", "[json]") {
  const Json json = parse("{\"a\\n\\u001b[31mb\": 1, \"" + std::string(5000, 'x') + "\": 2}");
  for (const std::string& key : json.keys()) {
    const std::string message = error_of([&] { json.at(key).text(); });
    CHECK(message.find('\033') == message.npos);
    CHECK(message.size() < 300);
  }
}

TEST_CASE("a value keeps its document alive", "[json]") {
  const auto inner = [] { return parse(R"({"a": {"b": [10, 20]}})").at("a").at("b"); }();
  CHECK(inner.at(1).integer() == 20);
  CHECK(inner.where() == "f.json: a.b");
}

TEST_CASE("what is not JSON is refused", "[json]") {
  const auto text = GENERATE(as<std::string>(), "", " ", "{", "{\"a\":1", "{\"a\":1} x", "{} {}", "[1,]", "{\"a\":}",
                             "[NaN]", "[Infinity]", "[-Infinity]", "[1e999]", "[01]", "[+1]", "[.5]", "'a'", "{a:1}",
                             "// comment\n1", "[\"\n\"]", "[\"\\x\"]", "[\"\\ud800\"]", "[\"\xff\"]",
                             "[\"\xc0\xaf\"]", "[\"\xed\xa0\x80\"]", "[\"\xf4\x90\x80\x80\"]");
  CAPTURE(text);
  CHECK(holds(parse_error(text), "f.json: is not valid JSON: "));
}

TEST_CASE("a zero byte does not hide what follows it", "[json]") {
  CHECK(holds(parse_error({"{}\0garbage", 10}), "zero byte"));
  CHECK(holds(parse_error({"[\"a\0b\"]", 7}), "zero byte"));
}

TEST_CASE("two equal keys in one object are refused: readers would disagree on which one counts", "[json]") {
  CHECK(parse_error(R"({"x": {"a": 1, "b": 2, "a": 3}})") ==
        "f.json: is not accepted: the key \"a\" appears twice in one object");
  CHECK(holds(parse_error(R"({"a": 1, "\u0061": 2})"), "appears twice"));
  CHECK(parse(R"({"a": {"a": 1}, "b": {"a": 1}})").at("b").at("a").size() == 1);
}

TEST_CASE("nesting has a limit", "[json]") {
  const auto nested = [](std::size_t levels) { return std::string(levels, '[') + std::string(levels, ']'); };
  CHECK(parse(nested(64)).is_array());
  CHECK(parse_error(nested(65)) == "f.json: is not accepted: nested deeper than 64 levels");
  CHECK(holds(parse_error(std::string(10'000'000, '[')), "nested deeper"));
  std::string objects;
  for (int i = 0; i < 100; ++i) objects += "{\"a\":";
  CHECK(holds(parse_error(objects), "nested deeper"));
}

TEST_CASE("files: missing, empty, a directory", "[json]") {
  const TemporaryDirectory directory;
  const std::string path = directory.path().string();
  CHECK(Json::read(directory.write("good.json", "{\"a\": [1]}")).at("a").length() == 1);
  CHECK(error_of([&] { Json::read(path + "/none.json"); }) ==
        path + "/none.json: cannot be opened: No such file or directory");
  CHECK(error_of([&] { Json::read(directory.write("empty.json", "")); }) ==
        path + "/empty.json: is empty; copy or download it again");
  CHECK(error_of([&] { Json::read(path); }) == path + ": is a directory, expected a file");
  CHECK(error_of([&] { Json::read(directory.write("bad.json", "[1, 2")).where(); }).starts_with(path + "/bad.json: "));
}

TEST_CASE("a vocabulary of 128k tokens is found key by key in no time", "[json]") {
  std::string text;
  for (int i = 0; i < 128'000; ++i)
    text += (i == 0 ? "{" : ",") + ("\"token" + std::to_string(i * 7919 % 128'000)) + "\":" + std::to_string(i);
  const Json vocabulary = parse(text + "}");
  const auto keys = vocabulary.keys();
  REQUIRE(keys.size() == 128'000);
  index_t wrong = 0;
  for (index_t i = 0; i < keys.size(); ++i) wrong += vocabulary.at(keys[i]).size() != i;
  CHECK(wrong == 0);
  CHECK(keys[1] == "token7919");
}

TEST_CASE("an object is written in order and reads back the same", "[json]") {
  JsonObject object;
  object.set("stage", "absorbed")
      .set("quote", std::string_view("a\"b\\c\n\t\x01\xe2\x82\xac"))
      .set("third", 1.0 / 3)
      .set("whole", 5.0)
      .set("tiny", 5e-324)
      .set("bytes", index_t{18446744073709551615u})
      .set("minus", std::int64_t{-9223372036854775807 - 1})
      .set("yes", true)
      .set("inner", JsonObject().set("a", index_t{1}))
      .set("rows", std::vector<JsonObject>{JsonObject().set("b", index_t{2}), JsonObject()})
      .set("none", std::vector<JsonObject>{})
      .set("tokens", std::vector<std::int64_t>{1, -2, 3});
  const int indent = GENERATE(-1, 0, 2, 4);
  const Json json = parse(object.text(indent));
  CHECK(json.keys() == std::vector<std::string>{"stage", "quote", "third", "whole", "tiny", "bytes", "minus", "yes",
                                                "inner", "rows", "none", "tokens"});
  CHECK(json.at("stage").text() == "absorbed");
  CHECK(json.at("quote").text() == "a\"b\\c\n\t\x01\xe2\x82\xac");
  CHECK(json.at("third").number() == 1.0 / 3);
  CHECK(json.at("whole").number() == 5.0);
  CHECK(json.at("tiny").number() == 5e-324);
  CHECK(json.at("bytes").number() == 18446744073709551615.0);
  CHECK(json.at("minus").integer() == std::numeric_limits<std::int64_t>::min());
  CHECK(json.at("yes").flag());
  CHECK(json.at("inner").at("a").size() == 1);
  CHECK(json.at("rows").at(index_t{0}).at("b").size() == 2);
  CHECK(json.at("rows").at(1).keys().empty());
  CHECK(json.at("none").length() == 0);
  CHECK(json.at("tokens").at(1).integer() == -2);
}

TEST_CASE("text of an object: one line or indented", "[json]") {
  const JsonObject object = JsonObject().set("a", index_t{1}).set("b", JsonObject().set("c", "x"));
  CHECK(object.text(-1) == R"({"a":1,"b":{"c":"x"}})");
  CHECK(object.text(2) == "{\n  \"a\": 1,\n  \"b\": {\n    \"c\": \"x\"\n  }\n}");
  CHECK(JsonObject().text() == "{}");
}

TEST_CASE("what JSON cannot say is written as something valid", "[json]") {
  JsonObject object;
  object.set("half a character", "\xe2\x82").set("nan", std::nan("")).set("inf", HUGE_VAL);
  const Json json = parse(object.text());
  CHECK(json.at("half a character").text() == "\xef\xbf\xbd");
  CHECK(json.at("nan").is_null());
  CHECK(json.at("inf").is_null());
}

TEST_CASE("a copy of an object goes its own way", "[json]") {
  JsonObject first = JsonObject().set("a", index_t{1});
  JsonObject second = first;
  second.set("a", index_t{2});
  first.set("b", index_t{3});
  CHECK(first.text(-1) == R"({"a":1,"b":3})");
  CHECK(second.text(-1) == R"({"a":2})");
}

TEST_CASE("a key set again keeps its place and takes the new value", "[json]") {
  CHECK(JsonObject().set("a", index_t{1}).set("b", true).set("a", "x").text(-1) == R"({"a":"x","b":true})");
}
