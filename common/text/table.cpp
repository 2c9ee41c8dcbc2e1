#include "common/text/table.hpp"

#include <algorithm>
#include <cstdio>

namespace kv {
namespace {

/// Characters, not bytes: a UTF-8 continuation byte takes no column.
index_t columns(const std::string& text) {
  return static_cast<index_t>(std::ranges::count_if(text, [](char c) { return (c & 0xc0) != 0x80; }));
}

}  // namespace

std::string Table::text() const {
  std::vector<index_t> widths(rows_.front().size());
  std::vector<bool> numbers(widths.size(), true);
  for (index_t r = 0; r < rows_.size(); ++r)
    for (index_t c = 0; c < widths.size(); ++c) {
      const std::string& cell = rows_[r].at(c);
      widths[c] = std::max(widths[c], columns(cell));
      if (r > 0 && (cell.empty() || cell[0] < '0' || cell[0] > '9')) numbers[c] = false;
    }
  std::string text;
  for (index_t r = 0; r < rows_.size(); ++r) {
    std::string line;
    for (index_t c = 0; c < widths.size(); ++c) {
      const std::string &cell = rows_[r][c], padding(widths[c] - columns(cell), ' ');
      line += (c == 0 ? "" : "  ") + (numbers[c] ? padding + cell : cell + padding);
    }
    line.resize(line.find_last_not_of(' ') + 1);
    text += line + "\n";
    if (r == 0) text += std::string(columns(line), '-') + "\n";
  }
  return text;
}

std::string decimal(double value, int digits) {
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, "%.*f", digits, value);
  return buffer;
}

std::string grouped(std::size_t value) {
  std::string digits = std::to_string(value);
  for (std::ptrdiff_t i = static_cast<std::ptrdiff_t>(digits.size()) - 3; i > 0; i -= 3)
    digits.insert(static_cast<index_t>(i), ",");
  return digits;
}

}  // namespace kv
