/// Tokenizers: equal to Hugging Face's on goldens; merging against the textbook loop; hostile files; any bytes as text.
#include "common/text/tokenizer.hpp"

#include <ctime>
#include <limits>
#include <random>
#include <set>

#include "common/files/json.hpp"
#include "common/text/byte_alphabet.hpp"
#include "common/text/byte_pair.hpp"
#include "common/text/pattern.hpp"
#include "common/text/pre_tokenizer.hpp"
#include "common/text/nfc.hpp"
#include "common/text/unicode.hpp"
#include "common/text/utf8.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/temporary.hpp"

using namespace kv;

namespace {

const std::filesystem::path goldens = std::filesystem::path(KV_GOLDEN) / "tokenizers";
const std::vector<std::string> golden_names = {"deepseek-v2", "deepseek-v3", "gpt-4o", "gpt2",
                                               "llama2",      "llama3",      "qwen",   "tiny"};

/// tokenizer.json of a golden; `tiny` is the one that ships with the book.
std::filesystem::path tokenizer_file(const std::string& name) {
  return (name == "tiny" ? std::filesystem::path(KV_DATA) / "tiny-gqa" : goldens / name) / "tokenizer.json";
}

std::vector<Token> token_list(const Json& json) {
  std::vector<Token> tokens;
  for (index_t i = 0; i < json.length(); ++i) tokens.push_back(static_cast<Token>(json.at(i).integer()));
  return tokens;
}

/// What a stream gives; every piece must be whole characters.
std::string streamed(const Tokenizer& tokenizer, const std::vector<Token>& tokens) {
  TextStream stream(tokenizer);
  std::string text;
  for (const Token token : tokens) {
    const std::string piece = stream.push(token);
    CHECK(is_utf8(piece));
    text += piece;
  }
  return text + stream.finish();
}

std::vector<Token> without_special(const Tokenizer& tokenizer, std::vector<Token> tokens) {
  std::erase_if(tokens, [&](Token token) { return tokenizer.is_special(token); });
  return tokens;
}

/// Ids of all tokens: some ids have none.
std::vector<Token> known_tokens(const Tokenizer& tokenizer) {
  std::vector<Token> known;
  for (Token token = 0; token < static_cast<Token>(tokenizer.size()); ++token) {
    try {
      tokenizer.decode(std::vector<Token>{token});
      known.push_back(token);
    } catch (const std::out_of_range&) {
    }
  }
  return known;
}

/// Random text: scripts, white space, digits, punctuation, and bytes that are not UTF-8.
std::string random_text(std::mt19937& random, bool valid) {
  static const std::vector<std::string> parts = {
      " ", "  ", "\n", "\r\n", "\t", "the", " cache", "'s", "'LL", "1", "23", "4567", "e\u0301", "\u00e9", "\u1ec7",
      "\u952e\u503c", "\u30ad", "\U0001f469\u200d\U0001f467", "=", "...", "_", "\u2581", "\u0120", "<", "|>", "<0x41>",
      "\u00a0", "\u3000", "\u017f", "\u0661", std::string(1, '\0')};
  static const std::vector<std::string> broken = {"\xff", "\xc3",         "\xe9\x94", "\xf0\x9f\x91",
                                                  "\x80", "\xed\xa0\x80", "\xc0\xaf"};
  std::string text;
  for (auto count = random() % 40; count > 0; --count) {
    if (!valid && random() % 4 == 0) text += broken[random() % broken.size()];
    else if (random() % 3 == 0) text += static_cast<char>('a' + random() % 26);
    else text += parts[random() % parts.size()];
  }
  return text;
}

}  // namespace

// ---- goldens ----

TEST_CASE("all goldens are there", "[tokenizer]") {
  std::set<std::string> found;
  for (const auto& entry : std::filesystem::directory_iterator(goldens)) found.insert(entry.path().filename().string());
  CHECK(found == std::set<std::string>(golden_names.begin(), golden_names.end()));
}

TEST_CASE("texts give the ids of Hugging Face tokenizers, and ids the texts", "[tokenizer][golden]") {
  const std::string name = GENERATE(from_range(golden_names));
  CAPTURE(name);
  const Tokenizer tokenizer(tokenizer_file(name));
  const Json cases = Json::read(goldens / name / "cases.json");
  REQUIRE(cases.length() > 100);
  for (index_t i = 0; i < cases.length(); ++i) {
    const Json golden = cases.at(i);
    const std::string text = golden.at("text").text();
    CAPTURE(i, text);
    const std::vector<Token> tokens = tokenizer.encode(text), framed = tokenizer.encode_with_special(text);
    CHECK(tokens == token_list(golden.at("ids")));
    CHECK(framed == token_list(golden.at("ids_with_special")));
    CHECK(tokenizer.decode(tokens) == golden.at("decoded").text());
    CHECK(streamed(tokenizer, framed) == golden.at("decoded_skip_special").text());
  }
}

TEST_CASE("ids that no text encodes to decode as in Hugging Face tokenizers", "[tokenizer][golden]") {
  const std::string name = GENERATE(from_range(golden_names));
  CAPTURE(name);
  const Tokenizer tokenizer(tokenizer_file(name));
  const Json cases = Json::read(goldens / name / "decode_cases.json");
  REQUIRE(cases.length() > 20);
  for (index_t i = 0; i < cases.length(); ++i) {
    const std::vector<Token> tokens = token_list(cases.at(i).at("ids"));
    CAPTURE(i);
    CHECK(tokenizer.decode(tokens) == cases.at(i).at("decoded").text());
    CHECK(streamed(tokenizer, tokens) == tokenizer.decode(without_special(tokenizer, tokens)));
  }
}

// ---- properties ----

TEST_CASE("byte-level tokens spell every text", "[tokenizer]") {
  const Tokenizer tokenizer(tokenizer_file(GENERATE("gpt2", "llama3", "deepseek-v2", "deepseek-v3", "tiny")));
  std::mt19937 random(1);
  for (int round = 0; round < 500; ++round) {
    const std::string text = random_text(random, round % 2 == 0);
    CHECK(tokenizer.decode(tokenizer.encode(text)) == replace_invalid_utf8(text));
  }
}

TEST_CASE("a stream gives what decode gives, in whole characters", "[tokenizer]") {
  const Tokenizer tokenizer(tokenizer_file(GENERATE(from_range(golden_names))));
  const std::vector<Token> known = known_tokens(tokenizer);
  std::mt19937 random(2);
  for (int round = 0; round < 500; ++round) {
    std::vector<Token> tokens(random() % 20);
    for (Token& token : tokens) token = known[random() % known.size()];
    CHECK(streamed(tokenizer, tokens) == tokenizer.decode(without_special(tokenizer, tokens)));
  }
}

TEST_CASE("a stream hands a character out with its last token, and starts anew after finish", "[tokenizer]") {
  const Tokenizer tokenizer(tokenizer_file("tiny"));
  const std::vector<Token> tokens = tokenizer.encode("\u952e");
  REQUIRE(tokens.size() > 1);
  TextStream stream(tokenizer);
  for (index_t i = 0; i + 1 < tokens.size(); ++i) CHECK(stream.push(tokens[i]).empty());
  CHECK(stream.push(tokens.back()) == "\u952e");
  CHECK(stream.finish().empty());
  stream.push(tokens.front());
  CHECK(stream.finish() == replacement_character);
  CHECK(stream.push(tokenizer.encode("a").front()) == "a");
}

TEST_CASE("ids without a token: decode throws, a stream stays silent", "[tokenizer]") {
  const Tokenizer tokenizer(tokenizer_file("tiny"));
  for (const Token token : {static_cast<Token>(tokenizer.size()), -1, std::numeric_limits<Token>::max()}) {
    CHECK_THROWS_AS(tokenizer.decode(std::vector<Token>{token}), std::out_of_range);
    TextStream stream(tokenizer);
    CHECK(stream.push(token).empty());
    CHECK_FALSE(tokenizer.is_special(token));
  }
}

TEST_CASE("tokens are found by their text", "[tokenizer]") {
  const Tokenizer tokenizer(tokenizer_file("tiny"));
  const auto user = tokenizer.find("<|user|>");
  REQUIRE(user);
  CHECK(tokenizer.is_special(*user));
  CHECK(tokenizer.encode("<|user|>") == std::vector<Token>{*user});
  CHECK(tokenizer.find("a") == tokenizer.encode("a").front());
  CHECK_FALSE(tokenizer.is_special(tokenizer.encode("a").front()));
  CHECK_FALSE(tokenizer.find("<|nobody|>"));
  CHECK(tokenizer.size() > static_cast<index_t>(*user));
}

// ---- merging ----

namespace {

/// Algorithm 1 as in the paper: look for the pair that was learnt first, join its leftmost place, and again.
std::vector<std::string> merged_slowly(std::vector<std::string> symbols,
                                       const std::vector<std::pair<std::string, std::string>>& merges) {
  for (index_t rank = 0; rank < merges.size();) {
    index_t i = 0;
    while (i + 1 < symbols.size() && std::pair(symbols[i], symbols[i + 1]) != merges[rank]) ++i;
    if (i + 1 >= symbols.size()) {
      ++rank;
      continue;
    }
    symbols[i] += symbols[i + 1];
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(i) + 1);
    rank = 0;
  }
  return symbols;
}

}  // namespace

TEST_CASE("merging gives what the textbook loop gives", "[tokenizer]") {
  // Pairs that overlap one another: "aa", "aaa" in two ways, "ab" against "ba".
  const std::vector<std::pair<std::string, std::string>> merges = {
      {"b", "c"},  {"a", "a"}, {"aa", "a"},  {"a", "b"},  {"a", "bc"},
      {"ab", "c"}, {"c", "a"}, {"aa", "aa"}, {"ca", "b"}, {"bc", "aaa"}};
  std::string vocabulary = R"("a":0,"b":1,"c":2)", list;
  std::vector<std::string> texts = {"a", "b", "c"};
  std::set<std::string> known = {"a", "b", "c"};
  for (const auto& [left, right] : merges) {
    list += (list.empty() ? "[\"" : ",[\"") + left + "\",\"" + right + "\"]";
    if (!known.insert(left + right).second) continue;
    vocabulary += ",\"" + left + right + "\":" + std::to_string(texts.size());
    texts.push_back(left + right);
  }
  const BytePair model(Json::parse("{\"vocab\":{" + vocabulary + "},\"merges\":[" + list + "]}", "f.json"));

  std::mt19937 random(3);
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::string> symbols(random() % 30);
    std::string word;
    for (std::string& symbol : symbols) word += symbol = std::string(1, static_cast<char>('a' + random() % 3));
    std::vector<Token> tokens;
    model.encode(word, tokens);
    std::vector<std::string> parts;
    for (const Token token : tokens) parts.push_back(texts[static_cast<index_t>(token)]);
    CAPTURE(word);
    CHECK(parts == merged_slowly(symbols, merges));
  }
}

TEST_CASE("a long text is not quadratic, with spaces or without", "[tokenizer]") {
  const auto [name, unit] = GENERATE(table<std::string, std::string>({{"llama2", "the cache "},
                                                                      {"llama3", "aaaaaaaaab"},
                                                                      {"deepseek-v3", "!?!?!?!?!?"},
                                                                      {"qwen", "          "},
                                                                      {"tiny", "<|user<|us "}}));
  CAPTURE(name, unit);
  const Tokenizer tokenizer(tokenizer_file(name));
  std::string text;
  while (text.size() < 1'000'000) text += unit;
  const std::clock_t start = std::clock();
  const std::vector<Token> tokens = tokenizer.encode(text);
  CHECK((std::clock() - start) / CLOCKS_PER_SEC < 30);  // about one second; were it quadratic, hours
  CHECK(tokenizer.decode(tokens) == text);
}

// ---- words ----

namespace {

std::vector<std::string> words(std::string_view pre_tokenizer, std::string text) {
  const PreTokenizer cut = read_pre_tokenizer(Json::parse(pre_tokenizer, "f.json"));
  std::vector<std::string> texts;
  Budget budget(text.size());
  for (const Word& word : cut({{std::move(text), true}}, budget)) texts.push_back(word.text);
  return texts;
}
using Texts = std::vector<std::string>;

/// A Split step. @param kind "Regex" or "String"
std::string split_on(std::string_view kind, std::string_view pattern, std::string_view behavior, bool invert = false) {
  JsonObject step;
  step.set("type", "Split").set("pattern", JsonObject().set(kind, pattern));
  step.set("behavior", behavior).set("invert", invert);
  return step.text();
}

}  // namespace

TEST_CASE("what becomes of the matches of a Split", "[tokenizer]") {
  // The example of the tokenizers documentation, "SplitDelimiterBehavior".
  const auto cut = [](std::string_view behavior) {
    return words(split_on("String", "-", behavior), "the-final--countdown");
  };
  CHECK(cut("Removed") == Texts{"the", "final", "countdown"});
  CHECK(cut("Isolated") == Texts{"the", "-", "final", "-", "-", "countdown"});
  CHECK(cut("MergedWithPrevious") == Texts{"the-", "final-", "-", "countdown"});
  CHECK(cut("MergedWithNext") == Texts{"the", "-final", "-", "-countdown"});
  CHECK(cut("Contiguous") == Texts{"the", "-", "final", "--", "countdown"});
}

TEST_CASE("a Split may be inverted, and empty matches cut too", "[tokenizer]") {
  CHECK(words(split_on("Regex", "\\p{L}+", "Removed", true), "one, two") == Texts{"one", "two"});
  CHECK(words(split_on("Regex", "(?=\\p{N})", "Isolated"), "a12b") == Texts{"a", "1", "2b"});
}

TEST_CASE("digits stand alone or together", "[tokenizer]") {
  CHECK(words(R"({"type":"Digits","individual_digits":true})", "a12\u0663b") == Texts{"a", "1", "2", "\u0663", "b"});
  CHECK(words(R"({"type":"Digits","individual_digits":false})", "a12\u0663b") == Texts{"a", "12\u0663", "b"});
}

TEST_CASE("spaces become marks", "[tokenizer]") {
  const auto metaspace = [](const std::string& scheme, const std::string& split) {
    return R"({"type":"Metaspace","replacement":"_","prepend_scheme":")" + scheme + R"(","split":)" + split + "}";
  };
  CHECK(words(metaspace("always", "true"), "a b  c") == Texts{"_a", "_b", "_", "_c"});
  CHECK(words(metaspace("always", "true"), " a") == Texts{"_a"});
  CHECK(words(metaspace("never", "false"), "a b") == Texts{"a_b"});
  CHECK(words(metaspace("first", "false"), "a b") == Texts{"_a_b"});
  const std::string first = R"({"type":"Sequence","pretokenizers":[)" + split_on("String", "-", "Isolated") + "," +
                            metaspace("first", "false") + "]}";
  CHECK(words(first, "a-b") == Texts{"_a", "-", "b"});
  CHECK(words(R"({"type":"Metaspace","replacement":"_","add_prefix_space":false})", "a b") == Texts{"a", "_b"});
}

TEST_CASE("patterns mean what they mean in Oniguruma", "[tokenizer]") {
  const auto isolated = [](const std::string& regex, const std::string& text) {
    return words(split_on("Regex", regex, "Isolated"), text);
  };
  CHECK(isolated("\\s", "a\u180eb\u0085c\u3000d") == Texts{"a\u180eb", "\u0085", "c", "\u3000", "d"});
  CHECK(isolated("[^\\sx]", "a x") == Texts{"a", " x"});
  CHECK(isolated("\\S+", " a\u180e ") == Texts{" ", "a\u180e", " "});
  CHECK(isolated("a$", "aa\na") == Texts{"a", "a", "\n", "a"});
  CHECK(isolated("(?i:'s)", "'\u017f's") == Texts{"'\u017f", "'s"});
  CHECK(isolated("[]a]+", "b]ab") == Texts{"b", "]a", "b"});
  for (const std::string regex :
       {"(?x)", "(?<n>a)", "(?#a)", "(?~a)", "(?(1)a)", "(*FAIL)", "(a)\\1", "\\k<n>", "\\g<0>", "\\G", "\\K", "\\R", "\\X",
        "\\y", "\\Y", "\\C", "\\pL", "\\Qa\\E", "\\xE4", "\\x{D800}", "\\x{110000}", "\\cA", "\\p{Greek_Extended}",
        "[a-\\d]", "[\\d-a]", "[[:graph:]]", "(?i:ss)", "(?i:\u00e9)", "(?i:[\u00e9])", "(?i:[a&&b])", "a{1}{2}{1}{2}"}) {
    CAPTURE(regex);
    CHECK(holds(error_of([&] { isolated(regex, ""); }), "f.json: pattern.Regex has '"));
  }
  for (const std::string regex : {"(a", "a)", "[a", "[]", "a\\", "*a", "a|+", "(?=a)*", "^+", "[b-a]", "a{100001}"}) {
    CAPTURE(regex);
    CHECK(holds(error_of([&] { isolated(regex, ""); }), "f.json: pattern.Regex is not a valid pattern: "));
  }
  CHECK(holds(error_of([&] { isolated("(?:ab|c){9999}", ""); }), "f.json: pattern.Regex is too large a pattern"));
  CHECK(holds(error_of([&] { isolated("(?<=a+)b", ""); }), "f.json: pattern.Regex looks behind over a varying length"));
  CHECK(holds(error_of([&] { isolated(std::string(16385, 'a'), ""); }), "which is too long"));
  CHECK(holds(error_of([&] { isolated(std::string(200, '('), ""); }), "100 groups"));
}

TEST_CASE("one text has one budget: for a match that never ends, and for many that nearly do", "[tokenizer]") {
  const auto error = [](const std::string& regex, const std::string& text) {
    return error_of([&] {
      Budget budget(text.size());
      Pattern::regex(regex, "p").matches(text, budget);
    });
  };
  CHECK(holds(error("(?:a+)+$", std::string(64, 'a') + "b"), "p takes too many steps"));
  CHECK(holds(error("(?:(?:.|.){20}\\x00|.)", std::string(1000, 'a')), "p takes too many steps"));
  CHECK(holds(error("a*b", std::string(1'000'000, 'a')), "p takes too many steps"));
}

// ---- added tokens ----

namespace {

/// A tokenizer over the characters a ... z, space and <, >, with the given added token as id 100.
std::string file_with(const std::string& added, const std::string& normalizer = "null") {
  std::string vocabulary;
  int id = 0;
  for (const char c : std::string("abcdefghijklmnopqrstuvwxyz <>"))
    vocabulary += "\"" + std::string(1, c) + "\":" + std::to_string(id++) + ",";
  vocabulary.pop_back();
  return R"({"version":"1.0","added_tokens":[)" + added + R"(],"normalizer":)" + normalizer +
         R"(,"pre_tokenizer":null,"post_processor":null,"decoder":{"type":"Fuse"},"model":{"type":"BPE","vocab":{)" +
         vocabulary + R"(},"merges":[]}})";
}

std::string added_token(const std::string& content, const std::string& flags = "") {
  return R"({"id":100,"content":")" + content + R"(","normalized":false)" + flags + "}";
}

std::vector<Token> encoded(const std::string& file, std::string_view text) {
  return Tokenizer(Json::parse(file, "f.json")).encode(text);
}

}  // namespace

TEST_CASE("an added token takes the white space beside it, and may have to be a word", "[tokenizer]") {
  constexpr Token space = 26, x = 23, m = 12;
  using Tokens = std::vector<Token>;
  CHECK(encoded(file_with(added_token("<m>")), "x <m> x") == Tokens{x, space, 100, space, x});
  CHECK(encoded(file_with(added_token("<m>", R"(,"lstrip":true)")), "x  <m> x") == Tokens{x, 100, space, x});
  CHECK(encoded(file_with(added_token("<m>", R"(,"rstrip":true)")), "x <m>\n\u3000 x") == Tokens{x, space, 100, x});
  CHECK(encoded(file_with(added_token("<m>", R"(,"lstrip":true,"rstrip":true)")), " <m>  <m> ") == Tokens{100, 100});
  CHECK(encoded(file_with(added_token("mm", R"(,"single_word":true)")), "mm xmm mmx mm") ==
        Tokens{100, space, x, m, m, space, m, m, x, space, 100});
}

TEST_CASE("of the added tokens at one place the longest holds, and they do not overlap", "[tokenizer]") {
  const std::string file =
      file_with(R"({"id":100,"content":"ab"},{"id":101,"content":"abab"},{"id":102,"content":"bc"})");
  CHECK(encoded(file, "ababc") == std::vector<Token>{101, 2});
  CHECK(encoded(file, "abc") == std::vector<Token>{100, 2});
  CHECK(encoded(file, "aabab") == std::vector<Token>{0, 101});
}

TEST_CASE("a normalized added token is found in the normalized text", "[tokenizer]") {
  const std::string replace = R"({"type":"Replace","pattern":{"String":"z"},"content":"a"})";
  const std::string normalized = R"({"id":100,"content":"zb","normalized":true})";
  const std::string raw = R"({"id":100,"content":"zb","normalized":false})";
  CHECK(encoded(file_with(normalized, replace), "ab zb") == std::vector<Token>{100, 26, 100});
  CHECK(encoded(file_with(raw, replace), "ab zb") == std::vector<Token>{0, 1, 26, 100});
}

// ---- text that is not UTF-8 ----

TEST_CASE("what is not UTF-8 counts as U+FFFD, once for each maximal part", "[tokenizer]") {
  // Unicode Standard, tables 3-8 to 3-11, and what Python's decode("utf-8", "replace") gives.
  const auto [bytes, marks] = GENERATE(table<std::string, int>({{"\x80", 1},
                                                                {"\xc0\xaf", 2},
                                                                {"\xc3", 1},
                                                                {"\xe0\x80\xaf", 3},
                                                                {"\xed\xa0\x80", 3},
                                                                {"\xe1\x80", 1},
                                                                {"\xf4\x91\x92\x93", 4},
                                                                {"\xf0\x9f\x91", 1},
                                                                {"\xf0\x9f\xff", 2},
                                                                {"\xf8\x88\x80\x80\x80", 5},
                                                                {"\xe1\x80\xe2\xf0\x91\x92\xf1\xbf", 4}}));
  std::string expected = "a";
  for (int i = 0; i < marks; ++i) expected += replacement_character;
  CHECK(replace_invalid_utf8("a" + bytes) == expected);
  CHECK(replace_invalid_utf8("a" + bytes + "z") == expected + "z");
  CHECK_FALSE(is_utf8(bytes));
  const Tokenizer tokenizer(tokenizer_file("tiny"));
  CHECK(tokenizer.encode("a" + bytes) == tokenizer.encode(expected));
}

TEST_CASE("every character survives UTF-8 and every byte the alphabet", "[tokenizer]") {
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (0xD800 <= c && c < 0xE000) continue;
    const std::string character = to_utf8(c);
    if (!is_utf8(character) || character_length(character) != character.size() || code_point(character) != c) {
      FAIL("U+" << static_cast<std::uint32_t>(c));
    }
  }
  std::string bytes;
  for (int byte = 0; byte < 256; ++byte) bytes += static_cast<char>(byte);
  CHECK(from_byte_alphabet(to_byte_alphabet(bytes)) == bytes);
  CHECK(to_byte_alphabet(" \n") == "\u0120\u010a");
  CHECK_FALSE(from_byte_alphabet("a b"));
  CHECK_FALSE(from_byte_alphabet("\u952e"));
}

TEST_CASE("letters and their accents are composed", "[tokenizer]") {
  CHECK(nfc("e\u0301") == "\u00e9");
  CHECK(nfc("e\u0302\u0323") == "\u1ec7");
  CHECK(nfc("\u1112\u1161\u11ab") == "\ud55c");
  CHECK(nfc("\u212b \ufb01") == "\u00c5 \ufb01");
  CHECK(nfc(std::string("a\0b", 3)) == std::string("a\0b", 3));
  CHECK(nfc("").empty());
}

TEST_CASE("a character that no token spells is an error, or the unknown token", "[tokenizer]") {
  const std::string file = file_with(added_token("<m>"));
  CHECK(holds(error_of([&] { encoded(file, "aB"); }), "the tokenizer has no token for 'B'"));
  const auto with = [&](const std::string& keys) {
    return std::string(file).replace(file.find("\"vocab\""), 0, keys);
  };
  CHECK(encoded(with(R"("unk_token":"x",)"), "aBCb") == std::vector<Token>{0, 23, 23, 1});
  CHECK(encoded(with(R"("unk_token":"x","fuse_unk":true,)"), "aBCbD") == std::vector<Token>{0, 23, 1, 23});
}

// ---- hostile and unknown files ----

TEST_CASE("what a file declares and nobody knows is an error that names it", "[tokenizer]") {
  const std::string file = file_with(added_token("<m>"));
  const auto error = [&](const std::string& old, const std::string& with) {
    std::string changed = file;
    const auto place = changed.find(old);
    REQUIRE(place != changed.npos);
    changed.replace(place, old.size(), with);
    const std::string message = error_of([&] { Tokenizer tokenizer(Json::parse(changed, "f.json")); });
    const std::string where = "f.json: ";
    CHECK(message.starts_with(where));
    return message.substr(std::min(where.size(), message.size()));
  };
  const std::string normalizer = R"("normalizer":null)", words = R"("pre_tokenizer":null)",
                    frame = R"("post_processor":null)", decoder = R"({"type":"Fuse"})", merges = R"("merges":[])",
                    type = R"("type":"BPE")", id = R"("id":100)", added = R"("added_tokens":[)";

  CHECK(error("\"version\"", "\"colour\"") == "colour is not known");
  CHECK(error(type, R"("type":"Unigram")") == "model.type is 'Unigram', which is not supported here");
  CHECK(error(type, R"("type":"a\nb")") == "model.type is 'a?b', which is not supported here");
  CHECK(error(type, R"("dropout":0.1)") == "model.dropout is not 0: random merges are for training");
  CHECK(error(type, R"("continuing_subword_prefix":"##")") == "model.continuing_subword_prefix is not supported");
  CHECK(error(type, R"("end_of_word_suffix":"</w>")") == "model.end_of_word_suffix is not supported");
  CHECK(error(type, R"("unk_token":"<unk>")") == "model.unk_token is not in model.vocab");
  CHECK(error(type, R"("byte_fallback":true)") == "model.byte_fallback is set, but model.vocab has no <0x00>");
  CHECK(error(type, R"("byte_fallback":1)") == "model.byte_fallback is a whole number, expected true or false");
  CHECK(error(type, R"("speed":1)") == "model.speed is not known");
  CHECK(error(normalizer, R"("normalizer":{"type":"NFKC"})") ==
        "normalizer.type is 'NFKC', which is not supported here");
  CHECK(error(normalizer, R"("normalizer":{"type":"NFC","x":1})") == "normalizer.x is not known");
  CHECK(error(normalizer, R"("normalizer":{})") == "normalizer.type is missing");
  CHECK(error(normalizer, R"("normalizer":{"type":"Sequence","normalizers":[{"type":"Lowercase"}]})") ==
        "normalizer.normalizers[0].type is 'Lowercase', which is not supported here");
  CHECK(error(words, R"("pre_tokenizer":{"type":"BertPreTokenizer"})") ==
        "pre_tokenizer.type is 'BertPreTokenizer', which is not supported here");
  CHECK(error(words, R"("pre_tokenizer":{"type":"Split","pattern":{"String":"a"},"behavior":"Eaten"})") ==
        "pre_tokenizer.behavior is 'Eaten', which is not supported");
  CHECK(error(words, R"("pre_tokenizer":{"type":"Metaspace","replacement":"__"})") ==
        "pre_tokenizer.replacement is not one character");
  CHECK(error(words, R"("pre_tokenizer":{"type":"Metaspace","replacement":"_","prepend_scheme":"last"})") ==
        "pre_tokenizer.prepend_scheme is 'last', which is not supported");
  CHECK(error(words, R"("pre_tokenizer":{"type":"Metaspace","replacement":"_","prepend_scheme":"first",)"
                     R"("add_prefix_space":false})") == "pre_tokenizer.add_prefix_space contradicts prepend_scheme");
  CHECK(error(frame, R"("post_processor":{"type":"BertProcessing"})") ==
        "post_processor.type is 'BertProcessing', which is not supported here");
  const auto single = [](const std::string& pieces) {
    return R"("post_processor":{"type":"TemplateProcessing","single":[)" + pieces +
           R"(],"special_tokens":{"s":{"ids":[77]}}})";
  };
  CHECK(error(frame, single(R"({"Sequence":{"id":"A"}},{"SpecialToken":{"id":"t"}})")) ==
        "post_processor.special_tokens.t is missing");
  CHECK(error(frame, single(R"({"Sequence":{"id":"A"}},{"SpecialToken":{"id":"s"}})")) ==
        "post_processor adds the token 77, which does not exist");
  CHECK(error(frame, single(R"({"Sequence":{"id":"B"}})")) ==
        "post_processor.single[0].Sequence.id is not the one text 'A'");
  CHECK(error(frame, single("")) == "post_processor.single has no place for the text");
  CHECK(error(decoder, "null") == "decoder is null, expected an object");
  CHECK(error(decoder, R"({"type":"CTC"})") == "decoder.type is 'CTC', which is not supported here");
  CHECK(error(decoder, R"({"type":"Sequence","decoders":[{"type":"Fuse"},{"type":"ByteFallback"}]})") ==
        "decoder.decoders[1].type is 'ByteFallback', which is not supported here");
  CHECK(error(decoder, R"({"type":"Sequence","decoders":[{"type":"Fuse"},{"type":"Strip","content":" ","start":1,)"
                       R"("stop":1}]})") == "decoder.decoders[1].stop is not 0, which is not supported");
  CHECK(error(merges, R"("merges":["a"])") == "model.merges[0] is not a pair of tokens");
  CHECK(error(merges, R"("merges":["a b c"])") == "model.merges[0] is not a pair of tokens");
  CHECK(error(merges, R"("merges":[["a","b","c"]])") == "model.merges[0] is not a pair of tokens");
  CHECK(error(merges, R"("merges":[7])") == "model.merges[0] is not a pair of tokens");
  CHECK(error(merges, R"("merges":["a X"])") == "model.merges[0] needs a token that model.vocab lacks");
  CHECK(error(merges, R"("merges":["a b"])") == "model.merges[0] needs a token that model.vocab lacks");
  CHECK(error(merges, R"("merges":{})") == "model.merges is an object, expected a list");
  CHECK(error("\"a\":0", "\"a\":2147483648") == "model.vocab.a is 2147483648, which is too large for a token");
  CHECK(error("\"a\":0", "\"a\":-1") == "model.vocab.a is negative: -1");
  CHECK(error("\"a\":0", "\"a\":0.5") == "model.vocab.a is a fraction, expected a whole number");
  CHECK(error("\"a\":0", "\"a\":1") == "model.vocab.b is 1, which another token has");
  CHECK(error("\"a\":0", "\"b\":0") == "is not accepted: the key \"b\" appears twice in one object");
  CHECK(error(id, "\"id\":0") == "added_tokens[0].id is 0, which another token has");
  CHECK(error(id, "\"id\":99999999999") == "added_tokens[0].id is 99999999999, which is too large for a token");
  CHECK(error("\"<m>\"", "\"a\"") == "added_tokens[0].id is 100, but model.vocab has it as 0");
  CHECK(error("\"<m>\"", "\"\"") == "added_tokens[0].content is empty");
  CHECK(error(added, added + R"({"id":101,"content":"<m>"},)") ==
        "added_tokens[1].id is 100, but the same token is declared as 101 before");
  CHECK(error("\"vocab\":{", "\"vocab\":[],\"x\":{") == "model.x is not known");
  CHECK(error(file, "[]") == "is a list, expected an object");
  CHECK(error(file, "{}") == "model is missing");
}

TEST_CASE("errors of a file begin with its path", "[tokenizer]") {
  const TemporaryDirectory directory;
  const auto file = directory.write("tokenizer.json", R"({"model":{"type":"Unigram"}})");
  CHECK(error_of([&] { Tokenizer tokenizer(file); }) ==
        file.string() + ": model.type is 'Unigram', which is not supported here");
  CHECK(holds(error_of([&] { Tokenizer tokenizer(directory.path() / "none.json"); }), "none.json"));
}

TEST_CASE("the largest id needs no memory of its size", "[tokenizer]") {
  std::string file = file_with(added_token("<m>"));
  file.replace(file.find("100"), 3, "2147483647");
  const Tokenizer tokenizer(Json::parse(file, "f.json"));
  CHECK(tokenizer.encode("<m>") == std::vector<Token>{2147483647});
  CHECK(tokenizer.size() == index_t{1} << 31);
}

TEST_CASE("a token that is declared again keeps its id, takes the later flags and stays special", "[tokenizer]") {
  constexpr Token space = 26, x = 23;
  const Tokenizer tokenizer(Json::parse(
      file_with(added_token("<m>", R"(,"special":true)") + "," + added_token("<m>", R"(,"lstrip":true)")), "f.json"));
  CHECK(tokenizer.encode("x  <m> x") == std::vector<Token>{x, 100, space, x});
  CHECK(tokenizer.is_special(100));
}

// ---- growth ----

TEST_CASE("steps that multiply a text are stopped, and the message names the step", "[tokenizer]") {
  const auto repeated = [](const std::string& type, const std::string& list, const std::string& step, int count) {
    std::string steps;
    for (int i = 0; i < count; ++i) steps += (i == 0 ? "" : ",") + step;
    return "\"" + type + R"(":{"type":"Sequence",")" + list + "\":[" + steps + "]}";
  };
  const auto error = [](const std::string& old, const std::string& with) {
    std::string file = file_with(added_token("<m>"));
    file.replace(file.find(old), old.size(), with);
    return error_of([&] {
      const Tokenizer tokenizer(Json::parse(file, "f.json"));
      tokenizer.decode(tokenizer.encode_with_special("a"));
    });
  };
  const std::string ten = R"({"type":"Replace","pattern":{"Regex":"."},"content":"aaaaaaaaaa"})";
  const std::string normalizer = R"("normalizer":null)", words = R"("pre_tokenizer":null)",
                    decoder = R"("decoder":{"type":"Fuse"})", frame = R"("post_processor":null)";
  CHECK(holds(error(normalizer, repeated("normalizer", "normalizers", ten, 12)), "f.json: normalizer.normalizers["));
  CHECK(holds(error(normalizer, repeated("normalizer", "normalizers",
                                         R"({"type":"Prepend","prepend":")" + std::string(1'000'000, 'a') + "\"}", 40)),
              "f.json: normalizer.normalizers["));
  CHECK(holds(error(words, repeated("pre_tokenizer", "pretokenizers", R"({"type":"ByteLevel"})", 60)),
              "f.json: pre_tokenizer.pretokenizers["));
  CHECK(holds(error(decoder, repeated("decoder", "decoders", ten, 12)), "f.json: decoder.decoders["));
  CHECK(holds(error(words, repeated("pre_tokenizer", "pretokenizers", R"({"type":"Digits"})", 65)),
              "f.json: pre_tokenizer.pretokenizers[64] is one step too many"));
  std::string ids = "0";
  for (int i = 0; i < 256; ++i) ids += ",0";
  CHECK(holds(error(frame, R"("post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"s"}},)"
                           R"({"Sequence":{"id":"A"}}],"special_tokens":{"s":{"ids":[)" + ids + "]}}}"),
              "frame of more than 256 tokens"));
  CHECK(holds(error(decoder, R"("decoder":{"type":"Metaspace","replacement":""})"), "is not one character"));
}

TEST_CASE("a tokenizer.json of absurd size is refused before it is read", "[tokenizer]") {
  const TemporaryDirectory directory;
  const auto file = directory.write("tokenizer.json", "{}");
  std::filesystem::resize_file(file, (64 << 20) + 1);
  CHECK(holds(error_of([&] { Tokenizer tokenizer(file); }), "tokenizer.json: has 67108865 bytes"));
}
