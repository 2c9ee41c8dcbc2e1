#include "common/text/jinja/lexer.hpp"

#include <algorithm>

#include "common/files/error.hpp"
#include "common/text/jinja/python_text.hpp"
#include "common/text/tokenizer_json.hpp"
#include "common/text/utf8.hpp"

namespace kv::jinja {
namespace {

constexpr std::size_t longest = 256 * 1024;  // published templates have up to 20 KB

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || is_digit(c);
}

/// Lines end with \n, whatever they ended with, and the last one with nothing.
std::string with_plain_lines(std::string_view source) {
  std::string result;
  for (std::size_t i = 0; i < source.size(); ++i) {
    const bool windows = source[i] == '\r' && source.substr(i + 1, 1) == "\n";
    if (!windows) result += source[i] == '\r' ? '\n' : source[i];
  }
  if (result.ends_with('\n')) result.pop_back();
  return result;
}

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(std::move(source)), rest_(source_) {}

  std::vector<Token> run() {
    while (!rest_.empty()) {
      text();
      if (rest_.starts_with("{#")) comment();
      else if (rest_.starts_with("{%")) tag(Token::begin_tag, Token::end_tag, "%}");
      else if (rest_.starts_with("{{")) tag(Token::begin_output, Token::end_output, "}}");
    }
    add(Token::end, "");
    return std::move(tokens_);
  }

 private:
  static bool begins_tag(std::string_view two) { return two == "{{" || two == "{%" || two == "{#"; }

  [[noreturn]] void fail(const std::string& problem) const {
    throw Error("line " + std::to_string(line_) + ": " + problem);
  }

  void add(Token::Kind kind, std::string value) {
    tokens_.push_back({kind, std::move(value), line_});
  }

  void skip(std::size_t count) {
    line_ += static_cast<int>(std::ranges::count(rest_.substr(0, count), '\n'));
    if (count > 0) line_begins_ = rest_[count - 1] == '\n';
    rest_.remove_prefix(count);
  }
  void skip_space() { skip(rest_.size() - strip(rest_, Side::left).size()); }

  /// Text up to the next tag, which says by "{%-" that white space before it goes, and by "{%+"
  /// that it stays.
  void text() {
    std::size_t end = 0;
    while (end < rest_.size() && !begins_tag(rest_.substr(end, 2))) ++end;
    std::string_view kept = rest_.substr(0, end);
    const std::string_view tag = rest_.substr(end);
    const char sign = tag.size() > 2 ? tag[2] : ' ';
    if (sign == '-') kept = strip(kept, Side::right);
    else if (sign != '+' && !tag.empty() && !tag.starts_with("{{")) kept = without_indent(kept);
    if (!kept.empty()) add(Token::data, std::string(kept));
    skip(end);
  }

  /// White space between the beginning of a line and a tag goes.
  std::string_view without_indent(std::string_view text) const {
    const std::size_t line = text.rfind('\n') + 1;  // 0 when there is none
    const bool blank = strip(text.substr(line), Side::left).empty();
    return blank && (line > 0 || line_begins_) ? text.substr(0, line) : text;
  }

  /// Behind the end of a tag: "-" takes white space away, "+" leaves the end of the line.
  void end_of_tag(char sign, bool takes_line_end) {
    if (sign == '-') skip_space();
    else if (sign != '+' && takes_line_end && rest_.starts_with('\n')) skip(1);
  }

  void comment() {
    const std::size_t end = rest_.find("#}", 2);
    if (end == rest_.npos) fail("a comment has no end");
    const char sign = end > 2 ? rest_[end - 1] : ' ';
    skip(end + 2);
    end_of_tag(sign, true);
  }

  void tag(Token::Kind begin, Token::Kind end, std::string_view closing) {
    add(begin, "");
    skip(rest_.size() > 2 && (rest_[2] == '-' || rest_[2] == '+') ? 3 : 2);
    for (std::size_t brackets = 0;;) {
      skip_space();
      if (rest_.empty()) fail("a tag has no end");
      const bool is_tag = end == Token::end_tag;
      const bool signed_end = rest_[0] == '-' || (rest_[0] == '+' && is_tag);
      if (brackets == 0 && rest_.substr(signed_end).starts_with(closing)) {
        add(end, "");
        const char sign = rest_[0];
        skip(closing.size() + signed_end);
        return end_of_tag(sign, is_tag);
      }
      word();
      if (tokens_.back().kind != Token::symbol) continue;
      const char symbol = tokens_.back().value[0];
      if (symbol == '(' || symbol == '[' || symbol == '{') ++brackets;
      else if (symbol == ')' || symbol == ']' || symbol == '}')
        if (brackets-- == 0) fail("'" + std::string(1, symbol) + "' closes nothing");
    }
  }

  void word() {
    const char front = rest_[0];
    if (front == '\'' || front == '"') return string(front);
    std::size_t end = 0;
    while (end < rest_.size() && is_name(rest_[end])) ++end;
    if (end > 0) {
      if (!is_digit(front)) add(Token::name, std::string(rest_.substr(0, end)));
      else number(end);
    } else {
      for (const std::string_view two : {"//", "**", "==", "!=", ">=", "<="})
        if (rest_.starts_with(two)) end = 2;
      if (end == 0 && std::string_view("+-/*%~[](){}><=.:|,").find(front) != std::string_view::npos)
        end = 1;
      if (end == 0)
        fail(excerpt(rest_.substr(0, character_length(rest_))) + " is not known in a tag");
      add(Token::symbol, std::string(rest_.substr(0, end)));
    }
    skip(end);
  }

  void number(std::size_t end) {
    const std::string_view digits = rest_.substr(0, end), behind = rest_.substr(end);
    const bool fraction = behind.size() > 1 && behind[0] == '.' && is_digit(behind[1]);
    const bool zeros = digits.size() > 1 && digits[0] == '0';
    if (fraction || zeros || digits.size() > 18 || !std::ranges::all_of(digits, is_digit))
      fail("a number like " + excerpt(digits) + (fraction ? ", with a fraction," : "") +
           " is not supported in a chat template");
    add(Token::number, std::string(digits));
  }

  void string(char quote) {
    std::size_t end = 1;
    while (end < rest_.size() && rest_[end] != quote) end += rest_[end] == '\\' ? 2 : 1;
    if (end >= rest_.size()) fail("a string has no end");
    add(Token::string, unescaped(rest_.substr(1, end - 1)));
    skip(end + 1);
  }

  /// As in Python: a backslash before anything else than these stays.
  std::string unescaped(std::string_view raw) const {
    static constexpr std::string_view escapes = "\\'\"nrtabfv\n", meant = "\\'\"\n\r\t\a\b\f\v";
    std::string result;
    for (std::size_t i = 0; i < raw.size(); ++i) {
      if (raw[i] != '\\') {
        result += raw[i];
        continue;
      }
      const char escape = raw[++i];  // there is one: string() jumps over pairs
      const std::size_t known = escapes.find(escape), digits = escape == 'x'   ? 2
                                                               : escape == 'u' ? 4
                                                               : escape == 'U' ? 8
                                                                               : 0;
      if (digits > 0) {
        result += to_utf8(hexadecimal(raw.substr(i + 1, digits), digits));
        i += digits;
      } else if (is_digit(escape) || escape == 'N') {
        fail(std::string("\\") + escape + " in a string is not supported in a chat template");
      } else if (known == escapes.npos) {
        result += {'\\', escape};
      } else if (known < meant.size()) {
        result += meant[known];
      }
    }
    return result;
  }

  char32_t hexadecimal(std::string_view digits, std::size_t expected) const {
    char32_t code = 0;
    for (const char c : digits) {
      const std::size_t value =
          std::string_view("0123456789abcdef").find(static_cast<char>(is_digit(c) ? c : c | 0x20));
      code = value < 16 && code < 0x110000 ? code * 16 + static_cast<char32_t>(value) : 0x110000;
    }
    if (digits.size() < expected || code >= 0x110000 || (code >= 0xD800 && code < 0xE000))
      fail("a string holds \\" + excerpt(digits) + ", which is no character");
    return code;
  }

  const std::string source_;
  std::string_view rest_;
  int line_ = 1;
  bool line_begins_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokens_of(std::string_view source) {
  if (source.size() > longest) throw Error("a chat template of more than 256 KB is not supported");
  if (!is_utf8(source)) throw Error("a chat template must be UTF-8");
  return Lexer(with_plain_lines(source)).run();
}

}  // namespace kv::jinja
