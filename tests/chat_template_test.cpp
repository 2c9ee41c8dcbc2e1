/// Chat templates: equal to transformers' on published ones and on pieces of the language; refused
/// by name where they leave the subset; ended soon where they ask for too much.
#include "common/text/chat_template.hpp"

#include <sys/resource.h>

#include <random>

#include "common/files/json.hpp"
#include "common/text/utf8.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/sanitized.hpp"
#include "tests/support/temporary.hpp"

using namespace kv;

namespace {

const std::filesystem::path goldens = std::filesystem::path(KV_GOLDEN) / "templates";

const Json& golden() {
  static const Json cases = Json::read(goldens / "cases.json");
  return cases;
}

constexpr std::chrono::year_month_day golden_date{std::chrono::year(2026), std::chrono::month(3),
                                                  std::chrono::day(7)};

std::vector<Message> messages_of(const Json& list, index_t count) {
  std::vector<Message> messages;
  for (index_t i = 0; i < count; ++i)
    messages.push_back({list.at(i).at("role").text(), list.at(i).at("content").text()});
  return messages;
}

/// A checkpoint that has nothing but these files.
std::string rendered(const std::string& source, const std::string& config,
                     const std::vector<Message>& messages, bool open_answer) {
  const TemporaryDirectory checkpoint;
  checkpoint.write("chat_template.jinja", source);
  checkpoint.write("tokenizer_config.json", config);
  return ChatTemplate(checkpoint.path()).render(messages, open_answer, golden_date);
}
std::string rendered(const std::string& source) {
  return rendered(source, R"({"bos_token": "<s>"})", messages_of(golden().at("messages"), 3), true);
}
std::string error(const std::string& source) {
  const std::string message = error_of([&] { rendered(source); });
  const auto file = message.find("chat_template.jinja: ");
  return file == message.npos ? message : message.substr(file + 21);
}

JsonObject strings(const Json& object) {
  JsonObject result;
  for (const std::string& key : object.keys()) result.set(key, object.at(key).text());
  return result;
}

}  // namespace

TEST_CASE("published templates write conversations as transformers does", "[chat]") {
  const Json cases = golden().at("cases");
  REQUIRE(cases.length() >= 20 * 8);
  for (index_t i = 0; i < cases.length(); ++i) {
    const Json expected = cases.at(i);
    const std::string name = expected.at("template").text();
    std::vector<Message> messages = messages_of(golden().at("turns"), expected.at("turns").size());
    const Json system = golden().at("system");
    if (expected.at("system").flag())
      messages.insert(messages.begin(), {system.at("role").text(), system.at("content").text()});
    CAPTURE(name, messages.size());
    CHECK(rendered(contents_of(goldens / (name + ".jinja")), strings(expected.at("tokens")).text(),
                   messages, expected.at("open_answer").flag()) == expected.at("text").text());
  }
}

TEST_CASE("pieces of the language mean what they mean in Jinja", "[chat]") {
  const Json pieces = golden().at("language");
  for (index_t i = 0; i < pieces.length(); ++i) {
    CAPTURE(pieces.at(i).at("template").text());
    CHECK(rendered(pieces.at(i).at("template").text()) == pieces.at(i).at("text").text());
  }
}

TEST_CASE("the shipped models' template writes their training's form", "[chat]") {
  const ChatTemplate form(std::filesystem::path(KV_DATA) / GENERATE("tiny-gqa", "tiny-mla"));
  CHECK(form.render({{"user", "Q"}, {"assistant", "A"}, {"user", "R"}}, true) ==
        "<|bos|><|user|>Q<|assistant|>A<|eos|><|user|>R<|assistant|>");
  CHECK(holds(error_of([&] {
                form.render({{"system", "S"}}, true);
              }),
              "only the roles user and assistant are known"));
}

TEST_CASE("where a template and its tokens are read from", "[chat]") {
  const TemporaryDirectory checkpoint;
  const auto text = [&] { return ChatTemplate(checkpoint.path()).render({{"user", "Q"}}, false); };
  CHECK(holds(error_of(text), "has no chat template"));
  checkpoint.write("tokenizer_config.json", R"({"chat_template": null})");
  CHECK(holds(error_of(text), "has no chat template"));

  checkpoint.write(
      "tokenizer_config.json",
      R"({"chat_template": "a{{ bos_token }}{{ eos_token }}{{ image_token }}{{ pad_token }}",
      "bos_token": {"__type": "AddedToken", "content": "<s>", "lstrip": false}, "eos_token": "</s>", "pad_token": null,
      "add_bos_token": true, "extra_special_tokens": {"image_token": "<img>"}})");
  CHECK(text() == "a<s></s><img>");
  checkpoint.write("special_tokens_map.json",
                   R"({"eos_token": "<end>", "pad_token": {"content": "<pad>"}})");
  CHECK(text() == "a<s><end><img><pad>");
  checkpoint.write(
      "tokenizer_config.json",
      R"({"chat_template": "{{ eos_token }}", "eos_token": "</s>", "added_tokens_decoder": {}})");
  CHECK(text() == "</s>");
  checkpoint.write("tokenizer_config.json",
                   R"({"chat_template": "{{ eos_token }}", "tokenizer_class": "Qwen2Tokenizer",
      "added_tokens_decoder": {}})");
  CHECK(text() == "<|endoftext|>");

  checkpoint.write("tokenizer_config.json",
                   R"({"chat_template": [{"name": "tool_use", "template": "t"}]})");
  CHECK(holds(error_of(text), "chat_template has no template named 'default'"));
  checkpoint.write(
      "tokenizer_config.json",
      R"({"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]})");
  CHECK(text() == "d");
  checkpoint.write("chat_template.jinja", "j\n");
  CHECK(text() == "j");
  checkpoint.write("chat_template.jinja", "\n\n{% oops %}");
  CHECK(holds(error_of(text), "chat_template.jinja: line 3: the tag 'oops' is not supported"));
}

TEST_CASE("what a template must not do is named, with its line", "[chat]") {
  const auto [source, message] = GENERATE(table<std::string, std::string>({
      {"a\n{% include 'x' %}", "line 2: the tag 'include' is not supported in a chat template"},
      {"{% call f() %}{% endcall %}", "line 1: the tag 'call' is not supported"},
      {"{% for i in [1] recursive %}{% endfor %}", "a recursive loop is not supported"},
      {"{{ 1 / 2 }}", "the operator '/' is not supported"},
      {"{{ 1.5 }}", "with a fraction, is not supported"},
      {"{{ f(*a) }}", "'*' before an argument is not supported"},
      {"\n\n{{ 'a' | xmlattr }}",
       "line 3: the filter 'xmlattr' is not supported in a chat template"},
      {"{{ 'a' is divisibleby 2 }}", "the test 'divisibleby' is not supported"},
      {"{{ 'a'.zfill(3) }}", "the method 'zfill' is not supported"},
      {"{{ [].append(1) }}", "the method 'append' is not supported"},
      {"{{ 'a'.title }}", "the method 'title' can only be called"},
      {"{{ ''.__class__ }}", "the attribute '__class__' is not supported"},
      {"{{ 'ä' | upper }}", "cannot change the case of letters outside of ASCII"},
      {"{{ messages }}", "cannot print a list"},
      {"{{ messages[0] }}", "cannot print a dictionary"},
      {"{{ 'a' | tojson(sort_keys=true) }}", "sort_keys"},
      {"{{ strftime_now('%H:%M') }}", "'strftime_now' with '%H' is not supported"},
      {"{% for x in y %}{% macro f() %}{% endmacro %}{% endfor %}{% for x in [1] %}{% macro f() "
       "%}{% endmacro %}{% endfor %}",
       "a macro inside of another tag"},
      // errors in Jinja too
      {"{{ x.y }}", "cannot take 'y' of 'x', which is not defined"},
      {"{{ x() }}", "cannot call 'x', which is not defined"},
      {"{{ 'a' + 1 }}", "cannot compute with '+' and a text"},
      {"{{ 'a' < 1 }}", "cannot compare a text"},
      {"{{ none | length }}", "cannot take the length of none"},
      {"{% for i in 3 %}{% endfor %}", "cannot go over the items of a number"},
      {"{% set a, b = [1] %}", "1 values cannot be given 2 names"},
      {"{% set x = {} %}{% set x.y = 1 %}", "'x' is no namespace"},
      {"{{ 1 // 0 }}", "division by zero"},
      {"{{ 9223372036854775807 }}", "a number like"},
      {"{{ 999999999999999999 * 999999999999999999 }}", "a number becomes too large"},
      {"{{ 'a'.split('') }}", "cannot split a text at nothing"},
      {"{{ [1][::0] }}", "a slice cannot have the step 0"},
      {"{{ raise_exception('no\nway') }}", "the template says: 'no"},
      {"{% if x %}", "{% endif %} is missing"},
      {"{% endif %}", "the tag 'endif' closes nothing"},
      {"{% for x in y %}{% endif %}", "{% endfor %} is missing"},
      {"{% break %}", "'break' stands outside of a loop"},
      {"{{ 'a }}", "a string has no end"},
      {"{{ a", "a tag has no end"},
      {"{# a", "a comment has no end"},
      {"{{ ) }}", "')' closes nothing"},
      {"{{ }}", "an expression is missing"},
      {"{{ a b }}", "the end of the tag is missing before 'b'"},
      {"{{ a ? b }}", "'?' is not known in a tag"},
      {"{{ 'a' | }}", "a name is missing"},
      {"{{ \"\\ud800\" }}", "which is no character"},
      {"\xff", "must be UTF-8"},
  }));
  CAPTURE(source);
  CHECK(holds(error(source), message));
}

TEST_CASE("a date is given, never taken from the clock", "[chat]") {
  const TemporaryDirectory checkpoint;
  checkpoint.write("chat_template.jinja", "{{ strftime_now('%d %b %Y') if x is not defined }}");
  const ChatTemplate dated(checkpoint.path());
  CHECK(dated.render({}, true, golden_date) == "07 Mar 2026");
  CHECK(holds(error_of([&] { dated.render({}, true); }),
              "line 1: it asks for today's date, which must be given: --date"));
}

TEST_CASE("a hostile template ends with one line, soon and in little memory", "[chat]") {
  const std::string braces(200, '('), deep_if = [] {
    std::string text;
    for (int i = 0; i < 5000; ++i) text += "{% if true %}";
    return text;
  }();
  std::string sum = "1", filters = "x", nots, members = "x";
  for (int i = 0; i < 20000; ++i) {
    sum += "+1";
    filters += "|trim";
    nots += "not ";
    members += ".a";
  }
  const std::string source = GENERATE_COPY(
      std::string("{% for a in range(1000) %}{% for b in range(1000) %}{% for c in range(1000) "
                  "%}x{% endfor %}{% endfor %}{% endfor %}"),
      std::string("{{ 'x' * 1000000000 }}"), std::string("{{ range(1000000000) | list | length }}"),
      std::string("{{ range(1000000000000000000) }}"),
      std::string("{{ range(0, -1000000000000000000, -1) | length }}"),
      std::string("{% set ns = namespace(x='x') %}{% for i in range(60) %}{% set ns.x = ns.x ~ "
                  "ns.x %}{% endfor %}"),
      std::string("{% set ns = namespace(x='xy') %}{% for i in range(60) %}{% set ns.x = "
                  "ns.x.replace('x', ns.x) %}{% endfor %}"),
      std::string("{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + "
                  "ns.x %}{% endfor %}"),
      std::string("{% set ns = namespace(x=[]) %}{% for i in range(100000) %}{% set ns.x = [ns.x] "
                  "%}{% endfor %}{{ ns.x | tojson }}"),
      std::string("{% set ns = namespace(x={}) %}{% for i in range(60) %}{% set ns.x = {'a': ns.x, "
                  "'b': ns.x} %}{% endfor %}"),
      std::string("{% set ns = namespace(x=[1]) %}{% for i in range(40) %}{% set ns.x = [ns.x, "
                  "ns.x] %}{% endfor %}{{ ns.x | tojson }}"),
      std::string("{% set ns = namespace(x=[1], y=[1]) %}{% for i in range(40) %}{% set ns.x = "
                  "[ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}{% endfor %}{{ ns.x == ns.y }}"),
      std::string("{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}"),
      std::string("{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro "
                  "%}{{ f(60) }}"),
      std::string("{% set x = 'ab ' * 100000 %}{% for i in range(1000000) %}{% set y = x.split() "
                  "%}{% endfor %}"),
      std::string(
          "{% set x = 'a' * 1000000 %}{% for i in range(1000000) %}{{ x | length }}{% endfor %}"),
      std::string("{% set x = 'a' * 1000000 %}{% for i in range(1000000) %}{% if x == x ~ '' %}{% "
                  "endif %}{% endfor %}"),
      std::string("{% set x = 'a' * 1000000 %}{% for i in range(1000000) %}{% if 'b' in x or "
                  "x.startswith('b') or x.strip('b') == '' %}{% endif %}{% endfor %}"),
      std::string(
          "{% for i in range(1000000) %}{% set x = namespace(a=1) %}{{ x.a }}{% endfor %}{% for i "
          "in range(1000000) %}{{ i }}{% endfor %}{% for i in range(9999999) %}{% endfor %}"),
      std::string("{{ [1, 2] | tojson(indent=1000000000) | length }}{{ ('x' * 100000000)[:] }}"),
      "{{ " + braces + " }}", "{{ " + sum + " }}", "{{ " + filters + " }}", "{{ " + nots + "x }}",
      "{{ " + members + " }}", deep_if, "{{ " + std::string(5000, '[') + " }}",
      "{{ " + std::string(5000, '-') + "1 }}", "{{ " + std::string(5000, '{') + " }}",
      std::string(300000, 'x'), std::string("{{ x") + std::string(200000, '['));
  CAPTURE(source.substr(0, 200));
  rusage before{}, after{};
  ::getrusage(RUSAGE_SELF, &before);
  const std::string message = error(source);
  ::getrusage(RUSAGE_SELF, &after);
  CHECK(message.size() > 10);
  CHECK(message.size() < 200);
  if (test::sanitized) return;
  CHECK(after.ru_utime.tv_sec - before.ru_utime.tv_sec <=
        10);                           // about 1 in an optimised build
  CHECK(after.ru_maxrss < 1'000'000);  // KB, this whole program
}

TEST_CASE("any bytes as a template: an Error, or UTF-8", "[chat]") {
  std::mt19937 random(11);
  const auto below = [&](std::size_t n) { return random() % n; };
  std::vector<std::string> sources;
  for (const auto& entry : std::filesystem::directory_iterator(goldens))
    if (entry.path().extension() == ".jinja") sources.push_back(contents_of(entry.path()));
  REQUIRE(sources.size() >= 12);
  for (int round = 0; round < 400; ++round) {
    std::string source = sources[below(sources.size())];
    const std::string& other = sources[below(sources.size())];
    for (std::size_t changes = 1 + below(4); changes > 0; --changes) {
      const std::size_t at = below(source.size()), from = below(other.size());
      switch (below(4)) {
        case 0: source.erase(at, 1 + below(8)); break;
        case 1: source.insert(at, other.substr(from, 1 + below(20))); break;
        case 2: source[at] = static_cast<char>(below(256)); break;
        default: source.replace(at, 1 + below(10), other.substr(from, 1 + below(10)));
      }
      if (source.empty()) source = "x";
    }
    CAPTURE(round);
    try {
      const std::string text = rendered(source);
      CHECK(is_utf8(text));
    } catch (const Error& error) {
      CHECK(std::string_view(error.what()).find('\n') == std::string_view::npos);
      CHECK(std::string_view(error.what()).size() < 500);
    }
  }
}
