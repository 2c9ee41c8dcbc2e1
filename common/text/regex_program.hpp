#pragma once
/// @file
/// A regular expression as a program for the matcher.
#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "common/text/regex_alphabet.hpp"
#include "common/text/regex_tree.hpp"

namespace kv {

/// A list of instructions. Each goes on to the next one, or fails; then the matcher takes the last way that it left.
struct RegexProgram {
  enum class Operation : std::uint8_t {
    take,                           ///< one letter of the set
    run, run_lazy, run_possessive,  ///< `least` to `most` letters of the set
    fork,           ///< leaves the way to `target`; goes there at once unless a letter of the set comes next
    fork_away,      ///< goes to `target` and leaves the way on
    jump,           ///< goes to `target`
    mark,           ///< notes the place in slot `least`
    jump_if_moved,  ///< goes to `target` unless the place is the one in slot `least`
    apart,          ///< what follows up to `accept` is matched for itself, as `kind` says; then goes to `target`
    place,          ///< nothing, at a place of this kind
    accept          ///< the end
  };
  struct Instruction {
    Operation operation;
    RegexNode::Kind kind = {};
    std::uint32_t set = 0, target = 0, least = 0, most = 0;
  };
  using Letters = std::array<bool, RegexAlphabet::most_letters>;  ///< a set

  static constexpr std::uint32_t no_set = std::numeric_limits<std::uint32_t>::max();

  std::string where;  ///< names the pattern in errors
  RegexAlphabet alphabet;
  std::vector<Letters> sets = {};
  std::vector<Instruction> instructions = {};
  std::uint32_t slots = 0;
  std::uint32_t first = no_set;  ///< what every match begins with, if there is such a set
};

/// @throws Error when the program is too large, or the pattern tells too many characters apart
RegexProgram compile_regex(const RegexNode& pattern, const std::string& where);

}  // namespace kv
