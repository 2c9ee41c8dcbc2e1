#pragma once
/// @file
/// Sets of Unicode code points.
#include <initializer_list>
#include <vector>

namespace kv {

/// Ranges in ascending order that neither overlap nor touch.
class CodePoints {
 public:
  /// All code points from first to last.
  struct Range {
    char32_t first, last;
    bool operator==(const Range&) const = default;
    auto operator<=>(const Range&) const = default;
  };

  CodePoints() = default;
  CodePoints(std::initializer_list<Range> ranges) : CodePoints(std::vector(ranges)) {}
  /// @param ranges in any order; they may overlap
  explicit CodePoints(std::vector<Range> ranges);

  const std::vector<Range>& ranges() const { return ranges_; }
  bool empty() const { return ranges_.empty(); }
  /// A binary search.
  bool contains(char32_t code_point) const;

  auto operator<=>(const CodePoints&) const = default;
  bool operator==(const CodePoints&) const = default;

 private:
  std::vector<Range> ranges_;
};

/// The largest code point.
inline constexpr char32_t last_code_point = 0x10FFFF;

CodePoints operator|(const CodePoints& left, const CodePoints& right);
CodePoints operator&(const CodePoints& left, const CodePoints& right);
/// All others, U+0000 to U+10FFFF.
CodePoints operator~(const CodePoints& set);

}  // namespace kv
