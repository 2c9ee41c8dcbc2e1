#include "common/text/unicode.hpp"

#include <algorithm>
#include <map>
#include <string>

#include "common/text/unicode_runs.hpp"
#include "common/text/unicode_tables.hpp"

namespace kv {
namespace {

/// What stays of a name when capitals, spaces, hyphens and underscores do not count.
std::string plain(std::string_view name) {
  std::string letters;
  for (const char c : name)
    if (c != ' ' && c != '_' && c != '-') letters += 'A' <= c && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return letters;
}

/// By plain name.
using Sets = std::map<std::string, CodePoints, std::less<>>;

void add(Sets& sets, const std::vector<NamedRuns>& table) {
  for (const auto& [names, runs] : table)
    for (std::string_view left = names; !left.empty();) {
      const std::string_view name = left.substr(0, left.find(' '));
      sets.emplace(plain(name), read_runs(runs));
      left.remove_prefix(std::min(left.size(), name.size() + 1));
    }
}

Sets read(const std::vector<NamedRuns>& table) {
  Sets sets;
  add(sets, table);
  return sets;
}

/// The sets that are computed from others.
void add_unions(Sets& sets) {
  const auto all = [&sets](std::initializer_list<std::string_view> names) {
    CodePoints both;
    for (const std::string_view name : names) both = both | sets.find(name)->second;
    return both;
  };
  const auto define = [&sets](std::initializer_list<const char*> names, const CodePoints& set) {
    for (const char* const name : names) sets.emplace(name, set);
  };
  const Sets other = read(other_properties);
  define({"cs", "surrogate"}, {{0xD800, 0xDFFF}});
  define({"lc", "casedletter"}, all({"lu", "ll", "lt"}));
  define({"l", "letter"}, all({"lu", "ll", "lt", "lm", "lo"}));
  define({"m", "mark", "combiningmark"}, all({"mn", "mc", "me"}));
  define({"n", "number"}, all({"nd", "nl", "no"}));
  define({"p", "punctuation", "punct"}, all({"pc", "pd", "ps", "pe", "pi", "pf", "po"}));
  define({"s", "symbol"}, all({"sm", "sc", "sk", "so"}));
  define({"z", "separator"}, all({"zs", "zl", "zp"}));
  define({"assigned"}, all({"l", "m", "n", "p", "s", "z", "cc", "cf", "cs", "co"}));
  define({"cn", "unassigned"}, ~all({"assigned"}));
  define({"c", "other"}, all({"cc", "cf", "cs", "co", "cn"}));
  define({"any"}, {{0, last_code_point}});
  define({"ascii"}, {{0, 0x7F}});
  define({"xdigit"}, {{'0', '9'}, {'A', 'F'}, {'a', 'f'}});
  define({"space", "whitespace"}, all({"z"}) | CodePoints{{0x09, 0x0D}, {0x85, 0x85}});
  define({"alpha", "alphabetic"}, all({"l", "nl"}) | other.at("otheralphabetic"));
  define({"upper", "uppercase"}, all({"lu"}) | other.at("otheruppercase"));
  define({"lower", "lowercase"}, all({"ll"}) | other.at("otherlowercase"));
  define({"alnum"}, all({"alpha", "nd"}));
}

const Sets& sets() {
  static const Sets only = [] {
    Sets sets = read(general_categories);
    add(sets, scripts);
    add_unions(sets);
    return sets;
  }();
  return only;
}

}  // namespace

std::optional<CodePoints> unicode_set(std::string_view name) {
  const auto found = sets().find(plain(name));
  return found == sets().end() ? std::nullopt : std::optional(found->second);
}

bool is_white_space(char32_t character) {
  static const CodePoints& white_space = sets().at("space");
  return white_space.contains(character);
}

const CodePoints& word_characters() {
  static const CodePoints all = sets().at("alnum") | sets().at("m") | sets().at("pc");
  return all;
}

const CodePoints& numbers() {
  static const CodePoints all = sets().at("n") | read(other_properties).at("numbersofunicode17");
  return all;
}

}  // namespace kv
