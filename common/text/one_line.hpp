#pragma once
/// @file
/// Foreign text on a terminal.
#include <string>
#include <string_view>

namespace kv {

/// A message as one line of at most some hundred bytes, whatever it quotes from a file or the command line: what is no
/// character becomes U+FFFD, and what moves the cursor or turns the direction of writing a question mark. Of a long one the
/// beginning and the end are left: what is wrong where, and what to do.
std::string one_line(std::string_view message);

}  // namespace kv
