#pragma once
/// @file
/// Cuts a template into text and the words of its tags, and takes away white space as the tags ask.
#include <string>
#include <string_view>
#include <vector>

namespace kv::jinja {

struct Token {
  enum Kind {
    data,
    begin_output,
    end_output,
    begin_tag,
    end_tag,
    name,
    string,
    number,
    symbol,
    end
  } kind;
  std::string value;  ///< a string's without quotation marks and escapes
  int line;           ///< from 1
};

/// Comments are left out. `trim_blocks` and `lstrip_blocks` hold, as transformers sets them: a line
/// that has nothing but a tag leaves nothing.  @throws Error "line 3: ..."
std::vector<Token> tokens_of(std::string_view source);

}  // namespace kv::jinja
