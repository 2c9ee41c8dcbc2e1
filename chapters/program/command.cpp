#include "chapters/program/command.hpp"

#include <algorithm>
#include <charconv>
#include <limits>
#include <sstream>

#include "common/files/error.hpp"
#include "common/files/text_file.hpp"

namespace kv {
namespace {

constexpr index_t largest_size = index_t{1} << 40;  // no product of two overflows by much, and nobody needs more

const Option& find_option(const std::vector<Option>& options, std::string_view name) {
  const auto found = std::ranges::find(options, name, &Option::name);
  if (found == options.end()) throw UsageError("unknown option '" + std::string(name) + "'; --help lists the options");
  return *found;
}

/// The word that stands alone, if the command takes one.
const Option* find_operand(const std::vector<Option>& options) {
  const auto found = std::ranges::find_if(options, [](const Option& option) { return !option.name.starts_with("--"); });
  return found == options.end() ? nullptr : &*found;
}

}  // namespace

Arguments::Arguments(const std::vector<std::string>& words, const std::vector<Option>& options) {
  const Option* const operand = find_operand(options);
  bool only_operands = false;
  for (index_t i = 0; i < words.size(); ++i) {
    if (operand && !only_operands && words[i] == "--") {
      only_operands = true;
      continue;
    }
    if (operand && (only_operands || !words[i].starts_with("-"))) {
      if (!values_.emplace(operand->name, words[i]).second)
        throw UsageError("one " + std::string(operand->name) + " only: put quotes around several words");
      continue;
    }
    const index_t equals = words[i].starts_with("--") ? words[i].find('=') : std::string::npos;
    const std::string name = words[i].substr(0, equals);
    const Option& option = find_option(options, name);
    std::string value;
    if (equals != std::string::npos) {
      if (option.value.empty()) throw UsageError(name + " takes no value");
      value = words[i].substr(equals + 1);
    } else if (!option.value.empty()) {
      if (++i == words.size()) throw UsageError(name + " needs a value: " + name + " " + std::string(option.value));
      value = words[i];
    }
    if (!values_.emplace(name, value).second) throw UsageError(name + " stands twice");
  }
}

std::string Arguments::text(std::string_view name) const {
  const auto found = values_.find(name);
  if (found == values_.end()) throw UsageError(std::string(name) + " is missing; --help lists the options");
  return found->second;
}

std::string Arguments::text_or(std::string_view name, std::string_view fallback) const {
  return has(name) ? text(name) : std::string(fallback);
}

index_t Arguments::size_or(std::string_view name, index_t fallback, index_t least) const {
  if (!has(name)) return fallback;
  const index_t value = parse_size(text(name), name);
  if (value < least) throw UsageError(std::string(name) + " must be at least " + std::to_string(least));
  return value;
}

double Arguments::number_or(std::string_view name, double fallback) const {
  if (!has(name)) return fallback;
  const std::string word = text(name);
  double value = 0.0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (error != std::errc() || end != word.data() + word.size())
    throw UsageError(std::string(name) + " needs a number, not '" + word + "'");
  return value;
}

std::vector<std::string> Arguments::list(std::string_view name) const { return split(text(name)); }

std::vector<std::string> split(std::string_view text) {
  std::vector<std::string> parts;
  for (index_t start = 0; start <= text.size();) {
    const index_t end = std::min(text.find(',', start), text.size());
    parts.emplace_back(text.substr(start, end - start));
    start = end + 1;
  }
  return parts;
}

index_t parse_size(std::string_view text, std::string_view what) {
  index_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool is_number = !text.empty() && end == text.data() + text.size();
  if (is_number && (error == std::errc::result_out_of_range || value > largest_size))
    throw UsageError(std::string(what) + " takes at most " + std::to_string(largest_size) + ", not " + std::string(text));
  if (!is_number || error != std::errc())
    throw UsageError(std::string(what) + " needs a whole number that is not negative, not '" + std::string(text) + "'");
  return value;
}

std::vector<Token> parse_tokens(std::string text) {
  if (text.starts_with("@")) {
    text = read_text(text.substr(1));
    for (char& c : text)
      if (c == ',') c = ' ';
    std::istringstream words(text);
    text.clear();
    for (std::string word; words >> word;) text += (text.empty() ? "" : ",") + word;
  }
  std::vector<Token> tokens;
  for (const std::string& word : split(text)) {
    const index_t id = parse_size(word, "--tokens");
    if (id > static_cast<index_t>(std::numeric_limits<Token>::max()))
      throw Error("token id " + word + " is outside every vocabulary");
    tokens.push_back(static_cast<Token>(id));
  }
  return tokens;
}

}  // namespace kv
