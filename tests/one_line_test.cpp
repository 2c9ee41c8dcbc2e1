/// Foreign text on a terminal: one line, not too long, that moves nothing.
#include "common/text/one_line.hpp"
#include "common/text/utf8.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/temporary.hpp"

using namespace kv;

namespace {

constexpr std::size_t longest = 610;

bool is_utf8(const std::string& text) { return replace_invalid_utf8(text) == text; }

std::string repeated(std::string_view piece, std::size_t times) {
  std::string text;
  for (std::size_t i = 0; i < times; ++i) text += piece;
  return text;
}

}  // namespace

TEST_CASE("an ordinary message stays as it is", "[one_line]") {
  for (const char* text : {"", "config.json: vocab_size is missing", "m\xC3\xB6""del/\xE6\x96\x87/\xF0\x9F\x98\x80.json"}) CHECK(one_line(text) == text);
  const std::string full(600, 'x');
  CHECK(one_line(full) == full);
}

TEST_CASE("what is too long keeps its beginning and its end", "[one_line]") {
  const std::string line = one_line("BEGIN" + std::string(5'000'000, 'x') + "END");
  CHECK(line.starts_with("BEGINxxx"));
  CHECK(line.ends_with("xxxEND"));
  CHECK(holds(line, "x [...] x"));
  CHECK(line.size() <= longest);
  CHECK(line.size() > 500);
  CHECK(one_line(std::string(601, 'x')) == std::string(400, 'x') + " [...] " + std::string(200, 'x'));
}

TEST_CASE("no character is cut, wherever the border falls", "[one_line]") {
  for (const char* letter : {"\xC3\xB6", "\xE6\x96\x87", "\xF0\x9F\x98\x80"})
    for (std::size_t shift = 0; shift < 4; ++shift) {
      const std::string line = one_line(std::string(shift, 'x') + repeated(letter, 1000) + std::string(shift, 'y'));
      CAPTURE(letter, shift);
      CHECK(is_utf8(line));
      CHECK_FALSE(holds(line, replacement_character));
      CHECK(line.size() <= longest);
    }
}

TEST_CASE("bytes that are no characters are replaced, and do not make it longer", "[one_line]") {
  CHECK(one_line("a\xFF""b") == "a\xEF\xBF\xBD""b");
  for (const char* piece : {"\xFF", "\x80", "\xC3", "\xF0\x9F"})
    for (const std::size_t times : {300u, 600u, 2000u}) {
      const std::string line = one_line("begin " + repeated(piece, times) + " end");
      CAPTURE(piece, times);
      CHECK(is_utf8(line));
      CHECK(line.size() <= longest);
      CHECK(line.starts_with("begin "));
      CHECK(line.ends_with(" end"));
    }
}

TEST_CASE("what moves the cursor or turns the writing becomes a question mark", "[one_line]") {
  CHECK(one_line("a\nb\r\tc\x1B[2Jd\x7F") == "a?b??c?[2Jd?");
  CHECK(one_line(std::string("a\0b", 3)) == "a?b");
  for (const char* mark : {"\xC2\x9B", "\xE2\x80\xA8", "\xE2\x80\xA9", "\xE2\x80\xAA", "\xE2\x80\xAE", "\xE2\x81\xA6", "\xE2\x81\xA9", "\xE2\x80\x8E", "\xE2\x80\x8F", "\xD8\x9C", "\xEF\xBB\xBF"})
    CHECK(one_line(std::string("a") + mark + "b") == "a?b");
  for (const char* letter : {"\xC2\xA0", "\xE2\x80\x90", "\xE2\x80\xB0", "\xE2\x81\xAA", "\xD8\xA7"})  // their neighbours
    CHECK(one_line(letter) == letter);
}
