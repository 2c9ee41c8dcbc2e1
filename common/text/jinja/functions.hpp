#pragma once
/// @file
/// What a template can ask of a value: members, filters, tests, and Python's methods. The names are
/// those of Jinja and Python; one that published chat templates do not use is an Error that says
/// the name.
#include <initializer_list>
#include <string_view>
#include <utility>
#include <vector>

#include "common/text/jinja/value.hpp"

namespace kv::jinja {

struct Arguments {
  std::vector<Value> positional = {};
  std::vector<std::pair<std::string_view, Value>> named = {};

  /// In the order of `names`, null where left out.  @throws Error for one too many, and for another
  /// name
  std::vector<const Value*> in_order(std::initializer_list<std::string_view> names) const;
};

/// `value.name`  @throws Error for Python's methods, which must be called, and for all of what is
/// not defined
Value attribute(const Value& value, std::string_view name, Meter& meter);
/// `value[key]`
Value subscript(const Value& value, const Value& key, Meter& meter);

/// `input | name(arguments)`
Value apply_filter(std::string_view name, const Value& input, const Arguments& arguments,
                   Meter& meter);
/// `input is name(arguments)`
bool apply_test(std::string_view name, const Value& input, const Arguments& arguments,
                Meter& meter);
/// `self.name(arguments)`
Value call_method(const Value& self, std::string_view name, const Arguments& arguments,
                  Meter& meter);

}  // namespace kv::jinja
