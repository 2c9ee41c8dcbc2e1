#pragma once
/// @file
/// What a regular expression says, as a tree.
#include <cstdint>
#include <limits>
#include <vector>

#include "common/text/code_points.hpp"

namespace kv {

/// A part of a pattern. It matches some characters from a place on, in one way or several; the matcher tries them in
/// the order in which they are described here.
struct RegexNode {
  enum class Kind {
    set,               ///< one character of `set`
    sequence,          ///< all parts, one after the other
    choice,            ///< the first part, else the second, ...
    repeat,            ///< the one part, `least` to `most` times, in the order that `mode` says
    atomic,            ///< the one part in its first way only
    ahead, not_ahead,  ///< no character, where the one part matches next or does not
    behind, not_behind,  ///< no character, where the one part matches what ends here or does not
    text_start, text_end, line_start, line_end, last_line_end,  ///< no character, at such a place
    word_boundary, no_word_boundary
  };
  enum class Mode { greedy, lazy, possessive };  ///< many times first; few times first; as many as can be and no other

  static constexpr std::uint32_t unlimited = std::numeric_limits<std::uint32_t>::max();

  Kind kind;
  CodePoints set = {};  ///< of a set; what ends a line, or makes a word, of a place
  std::vector<RegexNode> parts = {};
  std::uint32_t least = 0, most = 0;
  Mode mode = Mode::greedy;
};

}  // namespace kv
