#include "common/text/regex_parser.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include "common/files/error.hpp"
#include "common/text/tokenizer_json.hpp"
#include "common/text/unicode.hpp"
#include "common/text/utf8.hpp"

namespace kv {
namespace {

using Kind = RegexNode::Kind;

constexpr std::size_t longest_pattern = 16 * 1024;  // bytes
constexpr int deepest = 100;                        // groups in groups, sets in sets
constexpr std::uint32_t largest_count = 100'000;    // as in Oniguruma

/// What (?i) and (?m) switch on.
struct Options {
  bool any_case = false;
  bool dot_all = false;
};

CodePoints one(char32_t c) { return {{c, c}}; }
CodePoints named(std::string_view name) { return unicode_set(name).value(); }
bool is_letter(char32_t c) { return ('a' <= c && c <= 'z') || ('A' <= c && c <= 'Z'); }

/// Characters that may be equal to others when case does not count, alone or several to one.
const CodePoints& cased() {
  static const CodePoints all = named("LC") | named("Lm") | named("M") | named("Nl") | named("So");
  return all;
}

/// ASCII letters in both cases; and the long s and the Kelvin sign, which are s and k in another form.
CodePoints in_both_cases(const CodePoints& set) {
  std::vector<CodePoints::Range> all = set.ranges();
  for (char32_t lower = 'a'; lower <= 'z'; ++lower) {
    const char32_t upper = lower - 'a' + 'A';
    if (!set.contains(lower) && !set.contains(upper)) continue;
    all.insert(all.end(), {{lower, lower}, {upper, upper}});
    if (lower == 's') all.push_back({0x17F, 0x17F});
    if (lower == 'k') all.push_back({0x212A, 0x212A});
  }
  return CodePoints(std::move(all));
}

class Parser {
 public:
  Parser(std::string_view pattern, const std::string& where) : left_(pattern), where_(where) {}

  RegexNode run() {
    if (left_.size() > longest_pattern)
      throw Error(where_ + " is a pattern of " + std::to_string(left_.size()) + " bytes, which is too long");
    RegexNode all = choice({});
    if (!left_.empty()) invalid("a ) that closes nothing");
    return all;
  }

 private:
  // ---- groups and what is in them ----

  /// a|b|c, up to a closing parenthesis or the end.
  RegexNode choice(Options options) {
    const Nesting nesting(*this);
    RegexNode choice{.kind = Kind::choice};
    do choice.parts.push_back(sequence(options));
    while (take("|"));
    return choice;
  }

  RegexNode sequence(Options options) {
    RegexNode sequence{.kind = Kind::sequence};
    char32_t before = 0;  // a single letter just before
    while (!left_.empty() && !left_.starts_with('|') && !left_.starts_with(')')) {
      if (left_.starts_with("(?") && take_options(options, ")")) {  // they hold to the end of the group: a(?i)b|c is a(?i:b|c)
        sequence.parts.push_back(choice(options));
        break;
      }
      const bool plain = is_letter(static_cast<unsigned char>(left_.front()));
      const char32_t letter = plain ? static_cast<char32_t>(left_.front()) | 0x20 : 0;
      if (options.any_case) refuse_ligature(before, letter);
      const std::size_t size = left_.size();
      sequence.parts.push_back(repeated(item(options)));
      before = size == left_.size() + 1 ? letter : 0;
    }
    return sequence;
  }

  /// Where case does not count, Oniguruma takes a ligature for two letters that stand side by side.
  void refuse_ligature(char32_t first, char32_t second) const {
    for (const std::string_view pair : {"ff", "fi", "fl", "st", "ss"})
      if (first == static_cast<char32_t>(pair[0]) && second == static_cast<char32_t>(pair[1]))
        refuse(std::string(pair) + " without regard to case");
  }

  RegexNode item(Options options) {
    if (left_.starts_with('\\')) return escape(options);
    if (left_.starts_with("(*")) refuse("(*");
    if (take("(")) return group(options);
    if (take("[")) return {.kind = Kind::set, .set = brackets(options)};
    if (take(".")) return {.kind = Kind::set, .set = options.dot_all ? named("Any") : ~one('\n')};
    if (take("^")) return {.kind = Kind::line_start, .set = one('\n')};
    if (take("$")) return {.kind = Kind::line_end, .set = one('\n')};
    if (take_quantifier()) invalid("a quantifier that follows nothing");
    return literal(take_character(), options);
  }

  RegexNode literal(char32_t c, Options options) {
    if (!options.any_case) return {.kind = Kind::set, .set = one(c)};
    if (c >= 0x80 && cased().contains(c)) refuse(to_utf8(c) + " without regard to case");
    return {.kind = Kind::set, .set = in_both_cases(one(c))};
  }

  RegexNode group(Options options) {
    static constexpr std::pair<std::string_view, Kind> kinds[] = {
        {"?:", Kind::sequence},   {"?>", Kind::atomic},      {"?=", Kind::ahead},
        {"?!", Kind::not_ahead}, {"?<=", Kind::behind}, {"?<!", Kind::not_behind}};
    Kind kind = Kind::sequence;
    if (left_.starts_with('?')) {
      const auto* const found = std::ranges::find_if(kinds, [&](const auto& k) { return left_.starts_with(k.first); });
      if (found != std::end(kinds)) {
        kind = found->second;
        left_.remove_prefix(found->first.size());
      } else if (!take_options(options, ":")) {
        refuse("(" + std::string(left_.substr(0, 3)));
      }
    }
    RegexNode group{.kind = kind};
    group.parts.push_back(choice(options));
    if (!take(")")) invalid("a ( without )");
    return group;
  }

  /// (?i) or (?im-i: at the front, with or without the parenthesis.
  bool take_options(Options& options, std::string_view end) {
    std::string_view rest = left_.substr(left_.starts_with('(') ? 1 : 0);
    if (!rest.starts_with('?')) return false;
    rest.remove_prefix(1);
    Options changed = options;
    bool on = true;
    for (; !rest.empty() && std::string_view("im-").find(rest.front()) != std::string_view::npos; rest.remove_prefix(1)) {
      if (rest.front() == '-') on = false;
      else (rest.front() == 'i' ? changed.any_case : changed.dot_all) = on;
    }
    if (!rest.starts_with(end)) return false;
    options = changed;
    left_ = rest.substr(end.size());
    return true;
  }

  // ---- quantifiers ----

  struct Quantifier {
    std::uint32_t least, most;
    RegexNode::Mode mode;
  };

  RegexNode repeated(RegexNode node) {
    int count = 0;
    while (const auto quantifier = take_quantifier()) {
      if (++count > 3) refuse("a quantifier on a quantifier on a quantifier");
      if (node.kind != Kind::set && node.kind != Kind::sequence && node.kind != Kind::atomic &&
          node.kind != Kind::repeat)
        invalid("a quantifier on an anchor");
      RegexNode repeat{.kind = Kind::repeat, .least = quantifier->least, .most = quantifier->most,
                       .mode = quantifier->mode};
      repeat.parts.push_back(std::move(node));
      node = std::move(repeat);
    }
    return node;
  }

  std::optional<Quantifier> take_quantifier() {
    using Mode = RegexNode::Mode;
    const auto mode = [this](bool may_be_possessive) {
      if (take("?")) return Mode::lazy;
      return may_be_possessive && take("+") ? Mode::possessive : Mode::greedy;
    };
    if (take("?")) return Quantifier{0, 1, mode(true)};
    if (take("*")) return Quantifier{0, RegexNode::unlimited, mode(true)};
    if (take("+")) return Quantifier{1, RegexNode::unlimited, mode(true)};

    // {n} {n,} {,m} {n,m}; anything else in braces stands for itself. A + behind is another quantifier, as is a ?
    // behind {n}; with n > m the interval is possessive.
    std::string_view rest = left_;
    if (!rest.starts_with('{')) return std::nullopt;
    rest.remove_prefix(1);
    const auto least = take_number(rest);
    const bool fixed = !rest.starts_with(',');
    if (!fixed) rest.remove_prefix(1);
    const auto most = fixed ? least : take_number(rest);
    if ((!least && !most) || !rest.starts_with('}')) return std::nullopt;
    left_ = rest.substr(1);
    Quantifier interval{least.value_or(0), most.value_or(RegexNode::unlimited), Mode::greedy};
    if (interval.least > interval.most) return Quantifier{interval.most, interval.least, Mode::possessive};
    if (!fixed) interval.mode = mode(false);
    return interval;
  }

  std::optional<std::uint32_t> take_number(std::string_view& rest) const {
    std::optional<std::uint32_t> number;
    for (; !rest.empty() && '0' <= rest.front() && rest.front() <= '9'; rest.remove_prefix(1)) {
      number = number.value_or(0) * 10 + static_cast<std::uint32_t>(rest.front() - '0');
      if (*number > largest_count) invalid("a quantifier above 100000");
    }
    return number;
  }

  // ---- escapes ----

  RegexNode escape(Options options) {
    if (take("\\A")) return {.kind = Kind::text_start};
    if (take("\\z")) return {.kind = Kind::text_end};
    if (take("\\Z")) return {.kind = Kind::last_line_end, .set = one('\n')};
    if (take("\\b")) return {.kind = Kind::word_boundary, .set = regex_word()};
    if (take("\\B")) return {.kind = Kind::no_word_boundary, .set = regex_word()};
    if (take("\\N")) return {.kind = Kind::set, .set = ~one('\n')};
    if (take("\\O")) return {.kind = Kind::set, .set = named("Any")};
    if (take("\\w")) return {.kind = Kind::set, .set = regex_word()};
    if (take("\\W")) return {.kind = Kind::set, .set = ~regex_word()};
    if (auto set = take_class()) return {.kind = Kind::set, .set = std::move(*set)};  // (?i) changes nothing
    return literal(take_escaped(), options);
  }

  /// An escape that means the same in brackets: \d, \s, \h, \p{...} and their opposites.
  std::optional<CodePoints> take_class() {
    if (left_.starts_with("\\p{") || left_.starts_with("\\P{")) return take_property();
    static constexpr std::pair<char, std::string_view> classes[] = {{'d', "Nd"}, {'s', "Space"}, {'h', "XDigit"}};
    for (const auto& [letter, name] : classes) {
      if (take(std::string{'\\', letter})) return named(name);
      if (take(std::string{'\\', static_cast<char>(letter - 'a' + 'A')})) return ~named(name);
    }
    return std::nullopt;
  }

  CodePoints take_property() {
    const std::size_t end = left_.find('}');
    if (end == left_.npos) invalid("\\p{ without }");
    const std::string_view whole = left_.substr(0, end + 1);
    std::string_view name = whole.substr(3, whole.size() - 4);
    bool negated = whole[1] == 'P';
    if (name.starts_with('^')) {
      negated = !negated;
      name.remove_prefix(1);
    }
    const auto set = unicode_set(name);
    if (!set) refuse(whole);
    left_.remove_prefix(whole.size());
    return negated ? ~*set : *set;
  }

  /// An escape that stands for one character.
  char32_t take_escaped() {
    if (left_.size() < 2) invalid("a \\ at the end");
    static constexpr std::pair<char, char32_t> controls[] = {{'t', '\t'}, {'n', '\n'}, {'v', '\v'}, {'r', '\r'},
                                                             {'f', '\f'}, {'a', 0x07}, {'e', 0x1B}};
    for (const auto& [letter, code] : controls)
      if (take(std::string{'\\', letter})) return code;
    if (left_.starts_with("\\x{")) return take_hexadecimal(3, 8, "}");
    if (left_.starts_with("\\x")) return take_hexadecimal(2, 2, "");
    if (left_.starts_with("\\u")) return take_hexadecimal(2, 4, "");
    const char kind = left_[1];
    if (is_letter(static_cast<unsigned char>(kind)) || ('0' <= kind && kind <= '9')) refuse(left_.substr(0, 2));
    left_.remove_prefix(1);
    return take_character();
  }

  /// Digits behind a prefix: exactly `digits`, or up to so many before a brace.
  char32_t take_hexadecimal(std::size_t prefix, std::size_t digits, std::string_view end) {
    const std::string_view whole = left_.substr(0, prefix + digits);
    char32_t code = 0;
    std::size_t count = 0;
    for (left_.remove_prefix(prefix); count < digits && !left_.empty(); ++count, left_.remove_prefix(1)) {
      const char c = left_.front();
      const bool digit = '0' <= c && c <= '9', lower = 'a' <= c && c <= 'f', upper = 'A' <= c && c <= 'F';
      if (!digit && !lower && !upper) break;
      code = code * 16 + static_cast<char32_t>(digit ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    const bool complete = end.empty() ? count == digits : count > 0 && take(end);
    const bool byte = digits == 2 && code >= 0x80;  // of a character that is spelt byte by byte
    if (!complete || byte || code > last_code_point || (0xD800 <= code && code < 0xE000)) refuse(whole);
    return code;
  }

  // ---- sets in brackets ----

  /// What follows [, up to its ].
  CodePoints brackets(Options options) {
    const Nesting nesting(*this);
    const bool negated = take("^");
    bool first = true;  // a ] that comes first is a character
    CodePoints set = take_members(options, std::exchange(first, false));
    while (take("&&")) {
      if (options.any_case) refuse("&& without regard to case");
      set = set & take_members(options, false);
    }
    if (!take("]")) invalid("a [ without ]");
    return negated ? ~set : set;
  }

  CodePoints take_members(Options options, bool first_in_brackets) {
    std::vector<CodePoints::Range> all;
    bool after_range = false;  // a - that could be read in two ways
    for (bool first = true; !left_.empty() && !left_.starts_with("&&"); first = false) {
      if (left_.starts_with(']') && !(first && first_in_brackets)) break;
      if (left_.starts_with('-') && after_range && !left_.starts_with("-]")) refuse("- in the midst of [ ]");
      const auto set = take_set_in_brackets(options);
      const CodePoints members = set ? *set : take_range(after_range);
      if (set) after_range = true;
      all.insert(all.end(), members.ranges().begin(), members.ranges().end());
    }
    const CodePoints set(std::move(all));
    if (!options.any_case) return set;
    if (!(set & ~named("ASCII") & cased()).empty()) refuse("[ ] with letters outside ASCII, without regard to case");
    return in_both_cases(set);
  }

  /// \d, [:alpha:], or brackets in brackets.
  std::optional<CodePoints> take_set_in_brackets(Options options) {
    if (take("\\w")) return word_characters();
    if (take("\\W")) return ~word_characters();
    if (auto set = take_class()) return set;
    if (left_.starts_with("[:")) return take_posix();
    if (!take("[")) return std::nullopt;
    if (options.any_case) refuse("[ in [ ] without regard to case");
    return brackets(options);
  }

  CodePoints take_posix() {
    static constexpr std::string_view names[] = {"alnum", "alpha", "digit", "lower", "space",
                                                 "upper", "xdigit", "ascii"};
    const std::size_t end = std::min(left_.find(":]"), left_.size());
    std::string_view name = left_.substr(2, end - 2);
    const bool negated = name.starts_with('^');
    if (negated) name.remove_prefix(1);
    CodePoints set;
    if (name == "punct") set = named("P") | named("S");
    else if (name == "word") set = word_characters();
    else if (std::ranges::find(names, name) != std::end(names)) set = named(name);
    else refuse(left_.substr(0, end + 2));
    left_.remove_prefix(end + 2);
    return negated ? ~set : set;
  }

  /// a or a-z.
  CodePoints take_range(bool& is_range) {
    const char32_t low = take_member();
    is_range = left_.starts_with('-') && !left_.starts_with("-]") && !left_.starts_with("-&&");
    if (!is_range) return one(low);
    left_.remove_prefix(1);
    if (left_.starts_with('[') || left_.starts_with("\\p{")) refuse("a range that ends in a set");
    const char32_t high = take_member();
    if (high < low) invalid("a range that ends before it begins");
    return {{low, high}};
  }

  char32_t take_member() {
    if (take("\\b")) return '\b';
    return left_.starts_with('\\') ? take_escaped() : take_character();
  }

  // ---- text ----

  bool take(std::string_view text) {
    if (!left_.starts_with(text)) return false;
    left_.remove_prefix(text.size());
    return true;
  }

  char32_t take_character() {
    if (left_.empty()) invalid("an end too early");
    const std::string_view character = left_.substr(0, character_length(left_));
    left_.remove_prefix(character.size());
    return code_point(character);
  }

  struct Nesting {
    explicit Nesting(Parser& parser) : depth(parser.depth_) {
      if (++depth > deepest) parser.invalid("more than 100 groups or sets in one another");
    }
    ~Nesting() { --depth; }
    int& depth;
  };

  [[noreturn]] void refuse(std::string_view what) const {
    throw Error(where_ + " has " + excerpt(what) + ", which is not supported in patterns");
  }
  [[noreturn]] void invalid(std::string_view what) const {
    throw Error(where_ + " is not a valid pattern: it has " + std::string(what));
  }

  std::string_view left_;
  const std::string& where_;
  int depth_ = 0;
};

}  // namespace

RegexNode parse_regex(std::string_view pattern, const std::string& where) { return Parser(pattern, where).run(); }

CodePoints regex_word() { return word_characters() | CodePoints{{0xB2, 0xB3}, {0xB9, 0xB9}, {0xBC, 0xBE}}; }

}  // namespace kv
