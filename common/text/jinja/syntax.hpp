#pragma once
/// @file
/// A template as a tree.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/text/jinja/value.hpp"

namespace kv::jinja {

struct Expression {
  enum Kind {
    constant,     // value
    name,         // text
    list,         // parts
    dict,         // parts: key, value, key, value, ...
    attribute,    // parts[0].text
    subscript,    // parts[0][parts[1]]
    slice,        // parts[0][parts[1]:parts[2]:parts[3]], none where left out
    call,         // parts[0](parts[1], ...), the last ones with keywords as their names
    filter,       // parts[0] | text(parts[1], ...), likewise
    test,         // parts[0] is text(parts[1], ...)
    unary,        // text parts[0]
    binary,       // parts[0] text parts[1]
    comparison,   // parts[0] operators[0] parts[1] operators[1] ..., each pair of neighbours
    conditional,  // parts[1] if parts[0] else parts[2]
    joined        // parts[0] ~ parts[1] ~ ...
  } kind;
  int line;
  std::string text = {};
  Value value = {};
  std::vector<Expression> parts = {};
  std::vector<std::string> operators = {};  // of a comparison
  std::vector<std::string> keywords = {};   // of a call, filter or test
  int depth = 1;                            // levels below and including this one
};

struct Statement;
using Block = std::vector<Statement>;

struct Statement {
  enum Kind {
    data,       // text
    output,     // expressions[0]
    condition,  // if expressions[i] then blocks[i]; one more block for else
    loop,  // for names in expressions[0] [if expressions[1]]: blocks[0]; blocks[1] when there was
           // nothing
    assignment,  // names, or names[0].names[1] when in_namespace: expressions[0]
    capture,     // names as above: what blocks[0] writes, through the filters of expressions[0]
    filtered,    // what blocks[0] writes, through the filters of expressions[0]
    macro,       // text(names, the last with expressions as defaults): blocks[0]
    scope,       // blocks[0], whose assignments end with it
    leave_loop,
    next_round
  } kind;
  int line;
  std::string text = {};
  std::vector<std::string> names = {};
  bool in_namespace = false;
  std::vector<Expression> expressions = {};
  std::vector<Block> blocks = {};
};

}  // namespace kv::jinja
