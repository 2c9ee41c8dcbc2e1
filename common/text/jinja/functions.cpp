#include "common/text/jinja/functions.hpp"

#include <algorithm>

#include "common/text/jinja/python_text.hpp"
#include "common/text/tokenizer_json.hpp"

namespace kv::jinja {
namespace {

[[noreturn]] void fail_unsupported(std::string_view kind, std::string_view name) {
  throw Error("the " + std::string(kind) + " " + excerpt(name) +
              " is not supported in a chat template");
}

/// Python finds these on a value before Jinja looks for a key.
bool is_method(const Value& value, std::string_view name) {
  static constexpr std::string_view text =
      " capitalize casefold center count encode endswith expandtabs find format format_map index "
      "isalnum isalpha isascii "
      "isdecimal isdigit isidentifier islower isnumeric isprintable isspace istitle isupper join "
      "ljust lower lstrip "
      "maketrans partition removeprefix removesuffix replace rfind rindex rjust rpartition rsplit "
      "rstrip split splitlines "
      "startswith strip swapcase title translate upper zfill ";
  static constexpr std::string_view list =
      " append clear copy count extend index insert pop remove reverse sort ";
  static constexpr std::string_view dict =
      " clear copy fromkeys get items keys pop popitem setdefault update values ";
  const std::string_view names = value.text()   ? text
                                 : value.list() ? list
                                 : value.dict() ? dict
                                                : "";
  return names.find(" " + std::string(name) + " ") != names.npos;
}

Value loop_member(const Loop& loop, std::string_view name) {
  const auto& items = loop.items->items;
  const auto index = static_cast<std::int64_t>(loop.index),
             count = static_cast<std::int64_t>(items.size());
  if (name == "index") return {index + 1};
  if (name == "index0") return {index};
  if (name == "revindex") return {count - index};
  if (name == "revindex0") return {count - index - 1};
  if (name == "first") return {index == 0};
  if (name == "last") return {index + 1 == count};
  if (name == "length") return {count};
  if (name == "depth") return {std::int64_t{1}};  // counts recursion, which is not supported
  if (name == "depth0") return {std::int64_t{0}};
  if (name == "previtem" && index > 0) return items[loop.index - 1];
  if (name == "nextitem" && index + 1 < count) return items[loop.index + 1];
  return make_undefined("loop." + std::string(name));
}

const std::string& text_of(const Value& value) {
  if (!value.text()) refuse("use as a text", value);
  return *value.text();
}
/// An argument that may be left out.
const std::string* text_or_none(const Value* value) {
  return !value || value->is<None>() ? nullptr : &text_of(*value);
}

/// The first argument, which is a text, and the others.
std::pair<std::string, Arguments> text_and_rest(const Arguments& arguments) {
  if (arguments.positional.empty()) throw Error("an argument is missing");
  return {text_of(arguments.positional[0]),
          {{arguments.positional.begin() + 1, arguments.positional.end()}, arguments.named}};
}

/// "role" or "function.name", as `map` and `selectattr` read it.
Value member(Value value, std::string_view path, Meter& meter) {
  const std::string dot = ".";
  for (const std::string& name : split(path, &dot, -1, meter))
    value = subscript(value, make_text(name), meter);
  return value;
}

/// Some filters go over none and false as over nothing.
std::vector<Value> items_or_nothing(const Value& value, Meter& meter) {
  return truth(value) ? items_of(value, meter) : std::vector<Value>{};
}

std::vector<Value> pairs_of(const std::vector<std::pair<Value, Value>>& members, Meter& meter) {
  std::vector<Value> pairs;
  for (const auto& [key, value] : members) pairs.push_back(make_list({key, value}, meter));
  return pairs;
}

// ---- methods ----

Value replaced(const std::string& self, const Arguments& arguments, Meter& meter) {
  const auto given = arguments.in_order({"old", "new", "count"});
  if (!given[0] || !given[1]) throw Error("'replace' needs two texts");
  const std::int64_t most = given[2] && !given[2]->is<None>() ? integer(*given[2], "count by") : -1;
  return make_text(replace(self, text_of(*given[0]), text_of(*given[1]), most, meter));
}

Value split_up(const std::string& self, const Arguments& arguments, Meter& meter) {
  const auto given = arguments.in_order({"sep", "maxsplit"});
  std::vector<Value> pieces;
  for (std::string& piece :
       split(self, text_or_none(given[0]), given[1] ? integer(*given[1], "count by") : -1, meter))
    pieces.push_back(make_text(std::move(piece)));
  return make_list(std::move(pieces), meter);
}

Value joined(std::string_view separator, const std::vector<Value>& items, Meter& meter) {
  Writer out(meter);
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out.add(separator);
    out.add(printed(items[i]));
  }
  return make_text(out.take());
}

Value text_method(const std::string& self, std::string_view name, const Arguments& arguments,
                  Meter& meter) {
  meter.bytes(2 * self.size());
  const auto stripped = [&](Side side) {
    return make_text(
        std::string(strip(self, side, text_or_none(arguments.in_order({"chars"})[0]))));
  };
  if (name == "strip") return stripped(Side::both);
  if (name == "lstrip") return stripped(Side::left);
  if (name == "rstrip") return stripped(Side::right);
  if (name == "split") return split_up(self, arguments, meter);
  if (name == "replace") return replaced(self, arguments, meter);
  if (name == "startswith" || name == "endswith") {
    const auto [part, rest] = text_and_rest(arguments);
    rest.in_order({});
    return {name == "startswith" ? self.starts_with(part) : self.ends_with(part)};
  }
  if (name != "upper" && name != "lower" && name != "capitalize") fail_unsupported("method", name);
  arguments.in_order({});
  return make_text(name == "upper"   ? upper(self)
                   : name == "lower" ? lower(self)
                                     : capitalize(self));
}

Value dict_method(const Dict& self, std::string_view name, const Arguments& arguments,
                  Meter& meter) {
  if (name == "get") {
    const auto given = arguments.in_order({"key", "default"});
    if (!given[0]) throw Error("'get' needs a key");
    const Value* const found = find(self, *given[0], meter);
    return found ? *found : given[1] ? *given[1] : Value{};
  }
  if (name != "items" && name != "keys" && name != "values") fail_unsupported("method", name);
  arguments.in_order({});
  if (name == "items") return make_list(pairs_of(self.members, meter), meter);
  std::vector<Value> values;
  for (const auto& [key, value] : self.members) values.push_back(name == "keys" ? key : value);
  return make_list(std::move(values), meter);
}

// ---- filters ----

/// select, reject (with a test), selectattr, rejectattr (with an attribute, and a test or none).
Value selected(std::string_view filter, const Value& input, const Arguments& arguments,
               Meter& meter) {
  const bool wanted = filter.starts_with("select"), by_attribute = filter.ends_with("attr");
  const std::string path = by_attribute ? text_and_rest(arguments).first : "";
  const Arguments rest = by_attribute ? text_and_rest(arguments).second : arguments;
  std::vector<Value> kept;
  for (const Value& item : items_or_nothing(input, meter)) {
    const Value value = by_attribute ? member(item, path, meter) : item;
    const auto holds = [&] {
      const auto [test, others] = text_and_rest(rest);
      return apply_test(test, value, others, meter);
    };
    if ((rest.positional.empty() ? truth(value) : holds()) == wanted) kept.push_back(item);
  }
  return make_list(std::move(kept), meter, true);
}

/// With the name of a filter, or with `attribute` (and `default`).
Value mapped(const Value& input, const Arguments& arguments, Meter& meter) {
  std::vector<Value> result;
  for (const Value& item : items_or_nothing(input, meter)) {
    if (!arguments.positional.empty()) {
      const auto [filter, others] = text_and_rest(arguments);
      result.push_back(apply_filter(filter, item, others, meter));
    } else {
      const auto given = arguments.in_order({"attribute", "default"});
      if (!given[0]) throw Error("'map' needs a filter or an attribute");
      Value value = member(item, text_of(*given[0]), meter);
      result.push_back(value.undefined() && given[1] ? *given[1] : std::move(value));
    }
  }
  return make_list(std::move(result), meter, true);
}

/// By key, without regard to case.
Value sorted_pairs(const Value& input, Meter& meter) {
  if (!input.dict()) refuse("sort the members of", input);
  std::vector<std::pair<Value, Value>> members = input.dict()->members;
  meter.elements(8 * members.size());
  const auto key = [](const auto& member) {
    return member.first.text() ? make_text(lower(*member.first.text())) : member.first;
  };
  std::ranges::stable_sort(members,
                           [&](const auto& a, const auto& b) { return less(key(a), key(b)); });
  return make_list(pairs_of(members, meter), meter);
}

Value reversed(const Value& input, Meter& meter) {
  std::vector<Value> items = items_of(input, meter);
  std::ranges::reverse(items);
  return input.text() ? joined("", items, meter) : make_list(std::move(items), meter, true);
}

Value json(const Value& input, const Arguments& arguments, Meter& meter) {
  const auto given = arguments.in_order({"ensure_ascii", "indent", "separators", "sort_keys"});
  for (const std::size_t i : {2, 3})
    if (given[i] && truth(*given[i]))
      throw Error("'tojson' with separators or sort_keys is not supported in a chat template");
  JsonStyle style{.ascii = given[0] && truth(*given[0])};
  if (given[1] && !given[1]->is<None>())
    style.indent = std::clamp<std::int64_t>(integer(*given[1], "indent by"), 0, 100);
  Writer out(meter);
  write_json(input, style, meter, out);
  return make_text(out.take());
}

Value simple_filter(std::string_view name, const Value& input, Meter& meter) {
  if (name == "length" || name == "count") return {length_of(input, meter)};
  if (name == "list") return make_list(items_of(input, meter), meter);
  if (name == "string") return input.text() ? input : make_text(printed(input));
  if (name == "dictsort") return sorted_pairs(input, meter);
  if (name == "reverse") return reversed(input, meter);
  if (name == "items" && (input.undefined() || input.dict()))
    return make_list(input.dict() ? pairs_of(input.dict()->members, meter) : std::vector<Value>{},
                     meter, true);
  if (name == "first" || name == "last") {
    const std::vector<Value> items = items_of(input, meter);
    return items.empty()    ? make_undefined("an item of nothing")
           : name == "last" ? items.back()
                            : items.front();
  }
  fail_unsupported("filter", name);
}

// ---- tests ----

using Test = bool (*)(const Value& value);
using Comparison = bool (*)(const Value& a, const Value& b, Meter& meter);

bool is_integer(const Value& value) { return value.is<std::int64_t>(); }

constexpr std::pair<std::string_view, Test> tests[] = {
    {"defined", [](const Value& value) { return !value.undefined(); }},
    {"undefined", [](const Value& value) { return value.undefined(); }},
    {"none", [](const Value& value) { return value.is<None>(); }},
    {"boolean", [](const Value& value) { return value.is<bool>(); }},
    {"true", [](const Value& value) { return value.is<bool>() && value.as<bool>(); }},
    {"false", [](const Value& value) { return value.is<bool>() && !value.as<bool>(); }},
    {"integer", is_integer},
    {"number", [](const Value& value) { return is_integer(value) || value.is<bool>(); }},
    {"string", [](const Value& value) { return value.text() != nullptr; }},
    {"mapping", [](const Value& value) { return value.dict() != nullptr; }},
    {"iterable",
     [](const Value& value) {
       return value.undefined() || value.text() || value.list() || value.dict();
     }},
    {"sequence",
     [](const Value& value) {
       return value.undefined() || value.text() || (value.list() && !value.list()->once) ||
              value.dict();
     }},
    {"odd", [](const Value& value) { return integer(value, "halve") % 2 != 0; }},
    {"even", [](const Value& value) { return integer(value, "halve") % 2 == 0; }},
};

constexpr Comparison eq = equal;
constexpr Comparison ne = [](const Value& a, const Value& b, Meter& meter) {
  return !equal(a, b, meter);
};
constexpr Comparison lt = [](const Value& a, const Value& b, Meter&) { return less(a, b); };
constexpr Comparison gt = [](const Value& a, const Value& b, Meter&) { return less(b, a); };
constexpr Comparison le = [](const Value& a, const Value& b, Meter&) { return !less(b, a); };
constexpr Comparison ge = [](const Value& a, const Value& b, Meter&) { return !less(a, b); };
constexpr Comparison in = [](const Value& a, const Value& b, Meter& meter) {
  return contains(b, a, meter);
};

constexpr std::pair<std::string_view, Comparison> comparisons[] = {
    {"==", eq}, {"eq", eq}, {"equalto", eq},  {"!=", ne}, {"ne", ne}, {"in", in},
    {"<", lt},  {"lt", lt}, {"lessthan", lt}, {">", gt},  {"gt", gt}, {"greaterthan", gt},
    {"<=", le}, {"le", le}, {">=", ge},       {"ge", ge}};

}  // namespace

std::vector<const Value*> Arguments::in_order(std::initializer_list<std::string_view> names) const {
  if (positional.size() > names.size()) throw Error("an argument too many");
  std::vector<const Value*> ordered(names.size(), nullptr);
  for (std::size_t i = 0; i < positional.size(); ++i) ordered[i] = &positional[i];
  for (const auto& [name, value] : named) {
    const auto place = static_cast<std::size_t>(std::ranges::find(names, name) - names.begin());
    if (place == names.size())
      throw Error("the argument " + excerpt(name) + " is not supported in a chat template");
    ordered[place] = &value;
  }
  return ordered;
}

Value attribute(const Value& value, std::string_view name, Meter& meter) {
  if (name.starts_with("__")) fail_unsupported("attribute", name);
  if (is_method(value, name))
    throw Error("the method '" + std::string(name) + "' can only be called");
  return subscript(value, make_text(std::string(name)), meter);
}

Value subscript(const Value& value, const Value& key, Meter& meter) {
  meter.step();
  const std::string label = key.text() ? *key.text() : "an item";
  if (value.undefined()) refuse("take " + excerpt(label) + " of", value);
  if (value.dict()) {
    if (const Value* const found = find(*value.dict(), key, meter)) return *found;
  } else if ((value.list() || value.text()) && !key.text()) {
    const std::int64_t count = length_of(value, meter), index = integer(key, "count to"),
                       at = index < 0 ? index + count : index;
    if (at < 0 || at >= count) return make_undefined(label);
    return value.list() ? value.list()->items[static_cast<std::size_t>(at)]
                        : make_text(std::string(
                              characters(*value.text(), meter)[static_cast<std::size_t>(at)]));
  } else if (value.is<Namespace*>() && key.text()) {
    const auto& members = value.as<Namespace*>()->members;
    if (const auto found = members.find(label); found != members.end()) return found->second;
  } else if (value.is<std::shared_ptr<const Loop>>() && key.text()) {
    return loop_member(*value.as<std::shared_ptr<const Loop>>(), label);
  }
  if (is_method(value, label)) throw Error("the method '" + label + "' can only be called");
  return make_undefined(label);
}

Value apply_filter(std::string_view name, const Value& input, const Arguments& arguments,
                   Meter& meter) {
  meter.step();
  if (name == "select" || name == "reject" || name == "selectattr" || name == "rejectattr")
    return selected(name, input, arguments, meter);
  if (name == "map") return mapped(input, arguments, meter);
  if (name == "tojson") return json(input, arguments, meter);
  if (name == "upper" || name == "lower" || name == "capitalize" || name == "replace" ||
      name == "trim")
    return text_method(printed(input), name == "trim" ? "strip" : name, arguments, meter);
  if (name == "default" || name == "d") {
    const auto given = arguments.in_order({"default_value", "boolean"});
    const bool other = input.undefined() || (given[1] && truth(*given[1]) && !truth(input));
    return !other ? input : given[0] ? *given[0] : make_text("");
  }
  if (name == "join") {
    const auto given = arguments.in_order({"d", "attribute"});
    const Value items = given[1] ? mapped(input, {{}, {{"attribute", *given[1]}}}, meter) : input;
    return joined(given[0] ? printed(*given[0]) : "", items_of(items, meter), meter);
  }
  arguments.in_order({});
  return simple_filter(name, input, meter);
}

bool apply_test(std::string_view name, const Value& input, const Arguments& arguments,
                Meter& meter) {
  meter.step();
  const auto named = [&](const auto& row) { return row.first == name; };
  if (const auto row = std::ranges::find_if(tests, named); row != std::end(tests)) {
    arguments.in_order({});
    return row->second(input);
  }
  const auto row = std::ranges::find_if(comparisons, named);
  if (row == std::end(comparisons)) fail_unsupported("test", name);
  const Value* const other = arguments.in_order({"other"})[0];
  if (!other) throw Error("the test '" + std::string(name) + "' needs an argument");
  return row->second(input, *other, meter);
}

Value call_method(const Value& self, std::string_view name, const Arguments& arguments,
                  Meter& meter) {
  if (self.undefined()) refuse("call '" + std::string(name) + "' of", self);
  if (self.text()) return text_method(*self.text(), name, arguments, meter);
  if (self.dict()) return dict_method(*self.dict(), name, arguments, meter);
  fail_unsupported("method", name);
}

}  // namespace kv::jinja
