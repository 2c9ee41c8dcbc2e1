#pragma once
/// @file
/// The values of a template. They behave as Python's do, because Jinja's are Python's.
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "common/text/jinja/meter.hpp"

namespace kv::jinja {

struct Statement;
struct Value;
struct Loop;

/// What a name or key stands for that is not there. It prints as nothing; to ask it for something
/// is an error.
struct Undefined {
  std::shared_ptr<const std::string> name;
};
struct None {};
using Text = std::shared_ptr<const std::string>;  // UTF-8

/// A list or tuple, or what Python would make only when it is asked for: `once` is good for one
/// round.
struct List {
  std::vector<Value> items;
  int depth;  // 1 + the deepest item's: what is nested is also walked by recursion
  bool once = false;
  mutable bool spent = false;
};
/// In the order of insertion.
struct Dict {
  std::vector<std::pair<Value, Value>> members;
  int depth;
};
/// The one thing that can be changed. The evaluator owns it: it may hold itself.
struct Namespace {
  std::map<std::string, Value, std::less<>> members;
};
/// A macro, or a function that every template has.
struct Function {
  std::string_view name;
  const Statement* macro;  // none: a function of ours
};

/// Texts, lists and dictionaries do not change, so copies share them.
struct Value {
  std::variant<Undefined, None, bool, std::int64_t, Text, std::shared_ptr<const List>,
               std::shared_ptr<const Dict>, Namespace*, std::shared_ptr<const Loop>, Function>
      held = None{};

  template <class T>
  bool is() const {
    return std::holds_alternative<T>(held);
  }
  template <class T>
  const T& as() const {
    return std::get<T>(held);
  }
  const std::string* text() const { return is<Text>() ? as<Text>().get() : nullptr; }
  const List* list() const {
    return is<std::shared_ptr<const List>>() ? as<std::shared_ptr<const List>>().get() : nullptr;
  }
  const Dict* dict() const {
    return is<std::shared_ptr<const Dict>>() ? as<std::shared_ptr<const Dict>>().get() : nullptr;
  }
  bool undefined() const { return is<Undefined>(); }
};

/// `loop` inside of a for statement.
struct Loop {
  std::shared_ptr<const List> items;
  std::size_t index = 0;
};

Value make_undefined(std::string_view name);
Value make_text(std::string text);
/// @throws Error when lists in lists are nested deeper than 50
Value make_list(std::vector<Value> items, Meter& meter, bool once = false);
Value make_dict(std::vector<std::pair<Value, Value>> members, Meter& meter);

/// "a text", "'message.name', which is not defined", for errors.
std::string describe(const Value& value);
/// @throws Error "cannot VERB a number"
[[noreturn]] void refuse(std::string_view verb, const Value& value);

bool truth(const Value& value);
bool equal(const Value& a, const Value& b, Meter& meter);
/// @throws Error for values without an order
bool less(const Value& a, const Value& b);
/// `item in container`
bool contains(const Value& container, const Value& item, Meter& meter);
/// A truth value counts as 0 or 1.  @throws Error "cannot VERB a text"
std::int64_t integer(const Value& value, std::string_view verb);

/// What a for statement goes over: the items of a list, the keys of a dictionary, the characters of
/// a text.
std::vector<Value> items_of(const Value& value, Meter& meter);
std::int64_t length_of(const Value& value, Meter& meter);
/// The member of a dictionary, or nothing.
const Value* find(const Dict& dict, const Value& key, Meter& meter);

/// As `{{ value }}` writes it.  @throws Error for lists and dictionaries, which Python writes in a
/// notation of its own
std::string printed(const Value& value);

/// How `tojson` writes.
struct JsonStyle {
  std::int64_t indent = -1;  ///< spaces for each level; negative: one line
  bool ascii = false;        ///< other characters as \\uXXXX
};
void write_json(const Value& value, const JsonStyle& style, Meter& meter, Writer& out,
                int level = 0);

}  // namespace kv::jinja
