#include "common/text/jinja/python_text.hpp"

#include <algorithm>

#include "common/text/tokenizer_json.hpp"
#include "common/text/unicode.hpp"
#include "common/text/utf8.hpp"

namespace kv::jinja {
namespace {

std::size_t last_character(std::string_view text) {
  std::size_t start = text.size() - 1;
  while ((static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) --start;
  return start;
}

void require_ascii(std::string_view text) {
  if (std::ranges::any_of(text, [](char c) { return static_cast<unsigned char>(c) >= 0x80; }))
    throw Error("cannot change the case of letters outside of ASCII");
}

char to_upper(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; }
char to_lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

/// The next separator at or after `from`, and where the text goes on behind it.
std::pair<std::size_t, std::size_t> next_separator(std::string_view text,
                                                   const std::string* separator, std::size_t from) {
  if (separator) {
    const std::size_t at = text.find(*separator, from);
    return {at, at + separator->size()};
  }
  for (std::size_t at = from, length; at < text.size(); at += length) {
    const std::string_view rest = text.substr(at);
    length = character_length(rest);
    if (is_space(code_point(rest.substr(0, length))))
      return {at, text.size() - strip(rest, Side::left).size()};
  }
  return {text.npos, text.npos};
}

}  // namespace

bool is_space(char32_t character) {
  return is_white_space(character) || (character >= 0x1C && character <= 0x1F);
}

std::vector<std::string_view> characters(std::string_view text, Meter& meter) {
  meter.elements(text.size());
  std::vector<std::string_view> result;
  for (std::size_t length; !text.empty(); text.remove_prefix(length)) {
    length = character_length(text);
    result.push_back(text.substr(0, length));
  }
  return result;
}

std::string_view strip(std::string_view text, Side side, const std::string* characters) {
  const auto goes = [&](std::string_view character) {
    return characters ? characters->find(character) != std::string::npos
                      : is_space(code_point(character));
  };
  while (side != Side::right && !text.empty() && goes(text.substr(0, character_length(text))))
    text.remove_prefix(character_length(text));
  while (side != Side::left && !text.empty() && goes(text.substr(last_character(text))))
    text.remove_suffix(text.size() - last_character(text));
  return text;
}

std::vector<std::string> split(std::string_view text, const std::string* separator,
                               std::int64_t most, Meter& meter) {
  if (separator && separator->empty()) throw Error("cannot split a text at nothing");
  if (!separator) {
    if (most >= 0) throw Error("cannot split a text a given number of times at white space");
    text = strip(text, Side::both);
    if (text.empty()) return {};
  }
  std::vector<std::string> pieces;
  std::size_t start = 0;
  for (; most != 0; --most) {
    const auto [end, next] = next_separator(text, separator, start);
    if (end == text.npos) break;
    meter.elements(2);
    pieces.emplace_back(text.substr(start, end - start));
    start = next;
  }
  pieces.emplace_back(text.substr(start));
  return pieces;
}

std::string replace(std::string_view text, std::string_view old, std::string_view with,
                    std::int64_t most, Meter& meter) {
  if (old.empty()) throw Error("cannot replace nothing by something");
  Writer out(meter);
  for (std::size_t at; most != 0 && (at = text.find(old)) != text.npos; --most) {
    out.add(text.substr(0, at));
    out.add(with);
    text.remove_prefix(at + old.size());
  }
  out.add(text);
  return out.take();
}

std::string upper(std::string_view text) {
  require_ascii(text);
  std::string result(text);
  for (char& c : result) c = to_upper(c);
  return result;
}

std::string lower(std::string_view text) {
  require_ascii(text);
  std::string result(text);
  for (char& c : result) c = to_lower(c);
  return result;
}

std::string capitalize(std::string_view text) {
  std::string result = lower(text);
  if (!result.empty()) result[0] = to_upper(result[0]);
  return result;
}

std::string strftime(const std::chrono::year_month_day& date, std::string_view format) {
  static constexpr std::string_view months[] = {"January",   "February", "March",    "April",
                                                "May",       "June",     "July",     "August",
                                                "September", "October",  "November", "December"};
  static constexpr std::string_view days[] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                              "Thursday", "Friday", "Saturday"};
  const std::string_view month = months[static_cast<unsigned>(date.month()) - 1];
  const std::string_view weekday =
      days[std::chrono::weekday(std::chrono::sys_days(date)).c_encoding()];
  const auto two_digits = [](unsigned number) {
    return (number < 10 ? "0" : "") + std::to_string(number);
  };
  std::string text;
  for (std::size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%') {
      text += format[i];
      continue;
    }
    const std::string_view letter = format.substr(++i, 1);
    if (letter == "Y") text += std::to_string(static_cast<int>(date.year()));
    else if (letter == "m") text += two_digits(static_cast<unsigned>(date.month()));
    else if (letter == "d") text += two_digits(static_cast<unsigned>(date.day()));
    else if (letter == "y")
      text += two_digits(static_cast<unsigned>(static_cast<int>(date.year()) % 100));
    else if (letter == "B") text += month;
    else if (letter == "b") text += month.substr(0, 3);
    else if (letter == "A") text += weekday;
    else if (letter == "a") text += weekday.substr(0, 3);
    else if (letter == "%") text += '%';
    else
      throw Error("'strftime_now' with " + excerpt(format.substr(i - 1, 2)) +
                  " is not supported in a chat template");
  }
  return text;
}

std::vector<std::size_t> slice_positions(std::int64_t length, std::optional<std::int64_t> start,
                                         std::optional<std::int64_t> stop, std::int64_t step,
                                         Meter& meter) {
  if (step == 0) throw Error("a slice cannot have the step 0");
  const std::int64_t first = step > 0 ? 0 : -1, last = step > 0 ? length : length - 1;
  const auto inside = [&](std::int64_t at) {
    return std::clamp(at < 0 ? at + length : at, first, last);
  };
  std::vector<std::size_t> positions;
  std::int64_t at = start ? inside(*start) : (step > 0 ? first : last);
  const std::int64_t end = stop ? inside(*stop) : (step > 0 ? last : first);
  step = std::clamp(step, -length - 1, length + 1);  // so that no sum overflows
  for (; step > 0 ? at < end : at > end; at += step) {
    meter.step();
    positions.push_back(static_cast<std::size_t>(at));
  }
  return positions;
}

}  // namespace kv::jinja
