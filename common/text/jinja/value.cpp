#include "common/text/jinja/value.hpp"

#include <algorithm>

#include "common/text/jinja/python_text.hpp"
#include "common/text/tokenizer_json.hpp"
#include "common/text/utf8.hpp"

namespace kv::jinja {
namespace {

constexpr int deepest = 50;

int depth(const Value& value) {
  return value.list() ? value.list()->depth : value.dict() ? value.dict()->depth : 0;
}

int one_deeper(int depth) {
  if (depth >= deepest) throw Error("lists are nested deeper than " + std::to_string(deepest));
  return depth + 1;
}

bool is_integer(const Value& value) { return value.is<std::int64_t>() || value.is<bool>(); }

template <class... Functions>
struct Visitor : Functions... {
  using Functions::operator()...;
};
template <class... Functions>
Visitor(Functions...) -> Visitor<Functions...>;  // clang 14 does not find it by itself

std::string hexadecimal(char32_t code) {
  std::string digits = "\\u0000";
  for (std::size_t i = 5; i > 1; --i, code /= 16) digits[i] = "0123456789abcdef"[code % 16];
  return digits;
}

void write_json_text(std::string_view text, bool ascii, Meter& meter, Writer& out) {
  static constexpr std::string_view plain = "\"\\\n\r\t\b\f", escaped = "\"\\nrtbf";
  std::string quoted = "\"";
  for (const std::string_view character : characters(text, meter)) {
    const char32_t code = code_point(character);
    const std::size_t known = character.size() == 1 ? plain.find(character) : plain.npos;
    if (known != plain.npos) quoted += {'\\', escaped[known]};
    else if (code < 0x20 || (ascii && code > 0x7E && code < 0x10000)) quoted += hexadecimal(code);
    else if (ascii && code >= 0x10000)  // two surrogates
      quoted +=
          hexadecimal(0xD800 + ((code - 0x10000) >> 10)) + hexadecimal(0xDC00 + (code & 0x3FF));
    else quoted += character;
  }
  out.add(quoted + "\"");
}

}  // namespace

Value make_undefined(std::string_view name) {
  return {Undefined{std::make_shared<std::string>(name)}};
}
Value make_text(std::string text) { return {std::make_shared<const std::string>(std::move(text))}; }

Value make_list(std::vector<Value> items, Meter& meter, bool once) {
  meter.elements(items.size());
  int deep = 0;
  for (const Value& item : items) deep = std::max(deep, depth(item));
  return {std::make_shared<const List>(List{std::move(items), one_deeper(deep), once})};
}

Value make_dict(std::vector<std::pair<Value, Value>> members, Meter& meter) {
  meter.elements(2 * members.size());
  int deep = 0;
  Dict dict{{}, 0};
  for (auto& member : members) {
    Value &key = member.first, &value = member.second;
    if (!key.text() && !is_integer(key) && !key.is<None>()) refuse("use as a key", key);
    deep = std::max(deep, depth(value));
    const auto old = std::ranges::find_if(
        dict.members, [&](const auto& other) { return equal(other.first, key, meter); });
    if (old != dict.members.end()) old->second = std::move(value);
    else dict.members.emplace_back(std::move(key), std::move(value));
  }
  dict.depth = one_deeper(deep);
  return {std::make_shared<const Dict>(std::move(dict))};
}

std::string describe(const Value& value) {
  static constexpr std::string_view names[] = {
      "",       "none",         "true or false", "a number", "a text",
      "a list", "a dictionary", "a namespace",   "a loop",   "a function"};
  if (value.undefined()) return excerpt(*value.as<Undefined>().name) + ", which is not defined";
  return std::string(names[value.held.index()]);
}

void refuse(std::string_view verb, const Value& value) {
  throw Error("cannot " + std::string(verb) + " " + describe(value));
}

bool truth(const Value& value) {
  return std::visit(
      Visitor{[](const Undefined&) { return false; }, [](const None&) { return false; },
              [](bool flag) { return flag; }, [](std::int64_t number) { return number != 0; },
              [](const Text& text) { return !text->empty(); },
              [](const std::shared_ptr<const List>& list) {
                return list->once || !list->items.empty();
              },
              [](const std::shared_ptr<const Dict>& dict) { return !dict->members.empty(); },
              [](const auto&) { return true; }},
      value.held);
}

bool equal(const Value& a, const Value& b, Meter& meter) {
  if (is_integer(a) && is_integer(b)) return integer(a, "") == integer(b, "");
  if (a.held.index() != b.held.index()) return false;
  if (a.text()) {
    meter.bytes(std::min(a.text()->size(), b.text()->size()));
    return *a.text() == *b.text();
  }
  if (const List* x = a.list(), *y = b.list(); x) {
    meter.step(1 + std::min(x->items.size(), y->items.size()));
    return x == y || (!x->once && !y->once &&
                      std::ranges::equal(x->items, y->items, [&](const Value& p, const Value& q) {
                        return equal(p, q, meter);
                      }));
  }
  if (const Dict* x = a.dict(), *y = b.dict(); x)
    return x->members.size() == y->members.size() &&
           std::ranges::all_of(x->members, [&](const auto& member) {
             const Value* const other = find(*y, member.first, meter);
             return other && equal(member.second, *other, meter);
           });
  if (a.is<Namespace*>()) return a.as<Namespace*>() == b.as<Namespace*>();
  if (a.is<Function>()) return a.as<Function>().name == b.as<Function>().name;
  if (a.is<std::shared_ptr<const Loop>>()) refuse("compare", a);
  return true;  // both none, or both not defined
}

bool less(const Value& a, const Value& b) {
  if (a.text() && b.text()) return *a.text() < *b.text();  // UTF-8 sorts as code points do
  return integer(a, "compare") < integer(b, "compare");
}

bool contains(const Value& container, const Value& item, Meter& meter) {
  if (container.undefined()) return false;
  if (const std::string* const text = container.text()) {
    if (!item.text()) refuse("look in a text for", item);
    meter.bytes(text->size());
    return text->find(*item.text()) != text->npos;
  }
  if (container.dict()) return find(*container.dict(), item, meter) != nullptr;
  if (!container.list() || container.list()->once) refuse("look into", container);
  return std::ranges::any_of(container.list()->items,
                             [&](const Value& held) { return equal(held, item, meter); });
}

std::int64_t integer(const Value& value, std::string_view verb) {
  if (value.is<bool>()) return value.as<bool>();
  if (!value.is<std::int64_t>()) refuse(verb, value);
  return value.as<std::int64_t>();
}

std::vector<Value> items_of(const Value& value, Meter& meter) {
  if (value.undefined()) return {};
  std::vector<Value> items;
  if (const List* const list = value.list()) {
    if (list->once && std::exchange(list->spent, true)) return {};
    meter.elements(list->items.size());
    return list->items;
  }
  if (const Dict* const dict = value.dict()) {
    meter.elements(dict->members.size());
    for (const auto& member : dict->members) items.push_back(member.first);
  } else if (value.text()) {
    meter.elements(2 * value.text()->size());  // each a text of its own
    for (const std::string_view character : characters(*value.text(), meter))
      items.push_back(make_text(std::string(character)));
  } else {
    refuse("go over the items of", value);
  }
  return items;
}

std::int64_t length_of(const Value& value, Meter& meter) {
  if (value.undefined()) return 0;
  if (value.text()) return static_cast<std::int64_t>(characters(*value.text(), meter).size());
  if (value.dict()) return static_cast<std::int64_t>(value.dict()->members.size());
  if (!value.list() || value.list()->once) refuse("take the length of", value);
  return static_cast<std::int64_t>(value.list()->items.size());
}

const Value* find(const Dict& dict, const Value& key, Meter& meter) {
  meter.step(1 + dict.members.size() / 8);
  for (const auto& [name, value] : dict.members)
    if (equal(name, key, meter)) return &value;
  return nullptr;
}

std::string printed(const Value& value) {
  if (value.undefined()) return "";
  if (value.text()) return *value.text();
  if (value.is<None>()) return "None";
  if (value.is<bool>()) return value.as<bool>() ? "True" : "False";
  if (value.is<std::int64_t>()) return std::to_string(value.as<std::int64_t>());
  refuse("print", value);
}

void write_json(const Value& value, const JsonStyle& style, Meter& meter, Writer& out, int level) {
  meter.step();
  if (value.text()) return write_json_text(*value.text(), style.ascii, meter, out);
  if (value.is<None>()) return out.add("null");
  if (value.is<bool>()) return out.add(value.as<bool>() ? "true" : "false");
  if (value.is<std::int64_t>()) return out.add(printed(value));
  const List* const list = value.list();
  const Dict* const dict = value.dict();
  if ((!list && !dict) || (list && list->once)) refuse("write as JSON", value);
  const std::size_t count = list ? list->items.size() : dict->members.size();
  const auto line = [&](int at) {
    if (style.indent < 0) return;
    meter.bytes(static_cast<std::size_t>(style.indent) * static_cast<std::size_t>(at));
    out.add("\n" + std::string(static_cast<std::size_t>(style.indent * at), ' '));
  };
  out.add(list ? "[" : "{");
  for (std::size_t i = 0; i < count; ++i) {
    if (i > 0) out.add(style.indent < 0 ? ", " : ",");
    line(level + 1);
    if (dict) {
      const Value& key = dict->members[i].first;
      Writer name(meter);
      write_json(key, style, meter, name);
      out.add(key.text() ? name.take() : "\"" + name.take() + "\"");
      out.add(": ");
    }
    write_json(list ? list->items[i] : dict->members[i].second, style, meter, out, level + 1);
  }
  if (count > 0) line(level);
  out.add(list ? "]" : "}");
}

}  // namespace kv::jinja
