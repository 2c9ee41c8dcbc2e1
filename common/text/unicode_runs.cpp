#include "common/text/unicode_runs.hpp"

#include <charconv>
#include <cstdint>

namespace kv {

std::vector<char32_t> read_numbers(std::string_view text, int base) {
  std::vector<char32_t> numbers;
  for (const char *at = text.data(), *const end = at + text.size(); at < end; ++at) {
    std::uint32_t number = 0;
    at = std::from_chars(at, end, number, base).ptr;
    numbers.push_back(number);
  }
  return numbers;
}

CodePoints read_runs(std::string_view runs) {
  const std::vector<char32_t> lengths = read_numbers(runs, 10);
  std::vector<CodePoints::Range> ranges;
  char32_t next = 0;
  for (std::size_t i = 0; i + 1 < lengths.size(); i += 2) {
    const char32_t first = next + lengths[i];
    next = first + lengths[i + 1];
    ranges.push_back({first, next - 1});
  }
  return CodePoints(std::move(ranges));
}

}  // namespace kv
