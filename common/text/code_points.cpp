#include "common/text/code_points.hpp"

#include <algorithm>

namespace kv {

CodePoints::CodePoints(std::vector<Range> ranges) {
  std::ranges::sort(ranges);
  for (const Range& range : ranges) {
    if (ranges_.empty() || range.first > ranges_.back().last + 1) ranges_.push_back(range);
    else ranges_.back().last = std::max(ranges_.back().last, range.last);
  }
}

bool CodePoints::contains(char32_t code_point) const {
  const auto after = std::ranges::upper_bound(ranges_, code_point, {}, &Range::first);
  return after != ranges_.begin() && code_point <= std::prev(after)->last;
}

CodePoints operator|(const CodePoints& left, const CodePoints& right) {
  std::vector<CodePoints::Range> both = left.ranges();
  both.insert(both.end(), right.ranges().begin(), right.ranges().end());
  return CodePoints(std::move(both));
}

CodePoints operator&(const CodePoints& left, const CodePoints& right) { return ~(~left | ~right); }

CodePoints operator~(const CodePoints& set) {
  std::vector<CodePoints::Range> gaps;
  char32_t next = 0;
  for (const auto& [first, last] : set.ranges()) {
    if (next < first) gaps.push_back({next, first - 1});
    next = last + 1;
  }
  if (next <= last_code_point) gaps.push_back({next, last_code_point});
  return CodePoints(std::move(gaps));
}

}  // namespace kv
