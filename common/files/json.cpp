#include "common/files/json.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>
#include <variant>

#include "common/files/error.hpp"
#include "common/files/mapped_file.hpp"

namespace kv {
namespace {

using Library = nlohmann::ordered_json;

constexpr std::size_t max_depth = 64;  // real files have fewer than 10 levels; trees are destroyed recursively
// The largest published files are tokenizers of 262k tokens: 34 MB, 2.3 million values and keys.
constexpr std::size_t max_bytes = std::size_t{64} << 20, max_values = 4'000'000;

struct Member;

/// Members in the file's order, and the same sorted by key: a tokenizer's vocabulary is one object with 128k keys.
struct Object {
  std::vector<Member> members;
  std::vector<std::uint32_t> by_key;

  const Member* find(std::string_view key) const;
};

/// What is read is not kept in the library's own tree: its ordered object finds a key by a linear search, and keeps the
/// last of two equal keys in silence. It bounds neither depth nor number, and knows no path that an error could name.
struct Value {
  using Array = std::vector<Value>;
  std::variant<std::monostate, bool, std::int64_t, std::uint64_t, double, std::string, Array, Object> held;
};

struct Member {
  std::string key;
  Value value;
};

const Member* Object::find(std::string_view key) const {
  const auto found = std::ranges::lower_bound(by_key, key, {}, [this](std::uint32_t i) -> std::string_view {
    return members[i].key;
  });
  if (found == by_key.end() || members[*found].key != key) return nullptr;
  return &members[*found];
}

/// Text in quotation marks for a one-line message on a terminal: plain ASCII and not too long, whatever the file says.
std::string excerpt(std::string_view text) {
  constexpr std::size_t longest = 160;
  const std::string start = Library(text.substr(0, longest)).dump(-1, ' ', true, Library::error_handler_t::replace);
  return start + (text.size() > longest ? "..." : "");
}

/// Builds the tree from the events of the library's parser, which checks the grammar, numbers and UTF-8.
/// Events return false to stop; `problem` then says why.
class TreeBuilder : public nlohmann::json_sax<Library> {
 public:
  Value root;
  std::string problem;

  bool null() override { return add(std::monostate{}); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(std::int64_t value) override { return add(value); }
  bool number_unsigned(std::uint64_t value) override { return add(value); }
  bool number_float(double value, const std::string&) override { return add(value); }
  bool string(std::string& value) override { return add(std::move(value)); }
  bool binary(Library::binary_t&) override { return stop("holds binary data"); }

  bool start_object(std::size_t) override { return open(Object{}); }
  bool start_array(std::size_t) override { return open(Value::Array{}); }
  bool key(std::string& value) override {
    std::get<Object>(open_.back()->held).members.push_back({std::move(value), {}});
    return true;
  }
  bool end_array() override {
    open_.pop_back();
    return true;
  }
  bool end_object() override {
    Object& object = std::get<Object>(open_.back()->held);
    open_.pop_back();
    return sort_keys(object);
  }

  bool parse_error(std::size_t, const std::string&, const Library::exception& error) override {
    std::string_view text = error.what();
    // "[json.exception.parse_error.101] parse error at line 1, column 2: ...; last read: '...'; expected ..."
    if (const auto end = text.find("] "); text.starts_with('[') && end != text.npos) text.remove_prefix(end + 2);
    text = text.substr(0, text.find("; last read"));  // what follows quotes the file
    return stop("is not valid JSON: " + std::string(text.substr(0, 160)));
  }

 private:
  template <class T>
  bool add(T value) {
    if (!count()) return false;
    next().held = std::move(value);
    return true;
  }

  template <class T>
  bool open(T container) {
    if (open_.size() == max_depth)
      return stop("is not accepted: nested deeper than " + std::to_string(max_depth) + " levels");
    if (!count()) return false;
    Value& value = next();
    value.held = std::move(container);
    open_.push_back(&value);  // stays where it is: its own container grows only after it is closed
    return true;
  }

  /// Where the next value goes.
  Value& next() {
    if (open_.empty()) return root;
    if (auto* array = std::get_if<Value::Array>(&open_.back()->held)) return array->emplace_back();
    return std::get<Object>(open_.back()->held).members.back().value;
  }

  bool sort_keys(Object& object) {
    if (object.members.size() > std::numeric_limits<std::uint32_t>::max()) return stop("has too many keys");
    const auto key = [&](std::uint32_t i) -> std::string_view { return object.members[i].key; };
    object.by_key.resize(object.members.size());
    for (std::uint32_t i = 0; i < object.by_key.size(); ++i) object.by_key[i] = i;
    std::ranges::sort(object.by_key, {}, key);
    const auto twice = std::ranges::adjacent_find(object.by_key, {}, key);
    if (twice == object.by_key.end()) return true;
    return stop("is not accepted: the key " + excerpt(key(*twice)) + " appears twice in one object");
  }

  /// Two bytes of text can become sixty of memory.
  bool count() {
    return ++values_ <= max_values || stop("is not accepted: it holds more than " + std::to_string(max_values) + " values");
  }

  bool stop(std::string why) {
    problem = std::move(why);
    return false;
  }

  std::vector<Value*> open_;
  std::size_t values_ = 0;
};

/// What stands in the place of a file that was not downloaded.
std::string_view other_content(std::string_view text) {
  if (text.starts_with("version https://git-lfs.github.com/")) return "is a Git LFS pointer, not the file itself; run: git lfs pull";
  if (text.starts_with("<!") || text.starts_with("<html")) return "is a web page, not the file itself; download it again";
  return {};
}

/// The name of what a value holds, as a user says it.
std::string kind(const Value& value) {
  static constexpr const char* names[] = {"null",     "true or false", "a whole number", "a whole number",
                                          "a number", "text",          "a list",         "an object"};
  return names[value.held.index()];
}

/// How a path goes on with a key: ".factor", or "["two words"]".
std::string step(std::string_view before, std::string_view key) {
  const bool plain = !key.empty() && key.size() < 100 && std::ranges::all_of(key, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  });
  if (!plain) return "[" + excerpt(key) + "]";
  return (before.empty() ? "" : ".") + std::string(key);
}

}  // namespace

/// A value and how to get to it. The root owns the document; every other node keeps its parent alive.
struct Json::Node {
  const Value* value;
  std::shared_ptr<const Node> parent;  // none at the root
  const std::string* key = nullptr;    // of the parent, when that is an object
  index_t index = 0;                   // in the parent, when that is a list

  struct Document {
    std::string where;
    Value root;
  };
  std::shared_ptr<const Document> document;  // at the root only

  std::string path() const;
  std::string where() const;
  /// where() of a child that may not exist.
  std::string where(const std::string& step) const { return where() + (parent ? "" : ": ") + step; }
  [[noreturn]] void wrong_kind(const char* expected) const;
  template <class T>
  const T& as(const char* expected) const;
};

/// "rope_scaling.factor", "merges[3]", "model.vocab["a key that is no plain word"]".
std::string Json::Node::path() const {
  if (!parent) return "";
  const std::string before = parent->path();
  return before + (key ? step(before, *key) : "[" + std::to_string(index) + "]");
}

std::string Json::Node::where() const {
  const Node* root = this;
  while (root->parent) root = root->parent.get();
  return root->document->where + (parent ? ": " + path() : "");
}

void Json::Node::wrong_kind(const char* expected) const {
  throw Error(where() + (parent ? " is " : ": is ") + kind(*value) + ", expected " + expected);
}

template <class T>
const T& Json::Node::as(const char* expected) const {
  if (const T* held = std::get_if<T>(&value->held)) return *held;
  wrong_kind(expected);
}

Json::Json(std::shared_ptr<const Node> node) : node_(std::move(node)) {}

Json Json::parse(std::string_view text, std::string where) {
  // The library takes a zero byte for the end of the text.
  if (text.find('\0') != text.npos) throw Error(where + ": is not valid JSON: it holds a zero byte");
  TreeBuilder builder;
  if (!Library::sax_parse(text.begin(), text.end(), &builder)) throw Error(where + ": " + builder.problem);
  auto document = std::make_shared<const Node::Document>(Node::Document{std::move(where), std::move(builder.root)});
  const Value* const root = &document->root;
  return Json(std::make_shared<const Node>(Node{root, nullptr, nullptr, 0, std::move(document)}));
}

Json Json::read(const std::filesystem::path& file) {
  const MappedFile mapped(file);
  if (mapped.bytes().size() > max_bytes)
    throw Error(file.string() + ": has " + std::to_string(mapped.bytes().size()) + " bytes; the most for a file of JSON is " + std::to_string(max_bytes));
  if (const std::string_view other = other_content(mapped.text()); !other.empty()) throw Error(file.string() + ": " + std::string(other));
  return parse(mapped.text(), file.string());
}

bool Json::is_null() const { return std::holds_alternative<std::monostate>(node_->value->held); }
bool Json::is_object() const { return std::holds_alternative<Object>(node_->value->held); }
bool Json::is_array() const { return std::holds_alternative<Value::Array>(node_->value->held); }
bool Json::is_text() const { return std::holds_alternative<std::string>(node_->value->held); }
bool Json::is_flag() const { return std::holds_alternative<bool>(node_->value->held); }
bool Json::is_number() const {
  const auto& held = node_->value->held;
  return std::holds_alternative<std::int64_t>(held) || std::holds_alternative<std::uint64_t>(held) ||
         std::holds_alternative<double>(held);
}

bool Json::has(std::string_view key) const {
  const Member* const member = node_->as<Object>("an object").find(key);
  return member && !std::holds_alternative<std::monostate>(member->value.held);
}

bool Json::contains(std::string_view key) const { return node_->as<Object>("an object").find(key) != nullptr; }
Json Json::at(std::string_view key) const {
  const Member* const member = node_->as<Object>("an object").find(key);
  if (!member) throw Error(node_->where(step(node_->path(), key)) + " is missing");
  return Json(std::make_shared<const Node>(Node{&member->value, node_, &member->key, 0, nullptr}));
}

std::vector<std::string> Json::keys() const {
  std::vector<std::string> keys;
  for (const Member& member : node_->as<Object>("an object").members) keys.push_back(member.key);
  return keys;
}

index_t Json::length() const { return node_->as<Value::Array>("a list").size(); }

Json Json::at(index_t index) const {
  const auto& array = node_->as<Value::Array>("a list");
  if (index >= array.size())
    throw Error(node_->where("[" + std::to_string(index) + "]") + " is missing: the list has " +
                std::to_string(array.size()) + " elements");
  return Json(std::make_shared<const Node>(Node{&array[index], node_, nullptr, index, nullptr}));
}

std::string Json::text() const { return node_->as<std::string>("text"); }
bool Json::flag() const { return node_->as<bool>("true or false"); }

double Json::number() const {
  const auto& held = node_->value->held;
  if (const auto* value = std::get_if<double>(&held)) return *value;
  if (const auto* value = std::get_if<std::int64_t>(&held)) return static_cast<double>(*value);
  if (const auto* value = std::get_if<std::uint64_t>(&held)) return static_cast<double>(*value);
  node_->wrong_kind("a number");
}

std::int64_t Json::integer() const {
  const auto& held = node_->value->held;
  if (const auto* value = std::get_if<std::int64_t>(&held)) return *value;
  if (const auto* value = std::get_if<std::uint64_t>(&held); value && std::in_range<std::int64_t>(*value))
    return static_cast<std::int64_t>(*value);
  const double value = number();  // 4096.0 and 1e6 are whole numbers too
  if (std::trunc(value) != value) throw Error(where() + " is a fraction, expected a whole number");
  if (!(std::abs(value) < 0x1p63)) throw Error(where() + " is too large");
  return static_cast<std::int64_t>(value);
}

index_t Json::size() const {
  const std::int64_t value = integer();
  if (value < 0) throw Error(where() + " is negative: " + std::to_string(value));
  return static_cast<index_t>(value);
}

std::string Json::where() const { return node_->where(); }

// ---- writing ----

struct JsonObject::Tree {
  Library value = Library::object();
};

JsonObject::JsonObject() : tree_(std::make_shared<Tree>()) {}

template <class T>
JsonObject& JsonObject::put(std::string_view key, const T& value) {
  if (tree_.use_count() > 1) tree_ = std::make_shared<Tree>(*tree_);  // a copy of this object keeps what it has
  tree_->value[std::string(key)] = value;
  return *this;
}

JsonObject& JsonObject::set(std::string_view key, std::string_view value) { return put(key, value); }
JsonObject& JsonObject::set(std::string_view key, const char* value) { return put(key, value); }
JsonObject& JsonObject::set(std::string_view key, double value) { return put(key, value); }
JsonObject& JsonObject::set(std::string_view key, index_t value) { return put(key, value); }
JsonObject& JsonObject::set(std::string_view key, std::int64_t value) { return put(key, value); }
JsonObject& JsonObject::set(std::string_view key, bool value) { return put(key, value); }
JsonObject& JsonObject::set(std::string_view key, const JsonObject& value) { return put(key, value.tree_->value); }
JsonObject& JsonObject::set(std::string_view key, const std::vector<JsonObject>& values) {
  Library list = Library::array();
  for (const JsonObject& value : values) list.push_back(value.tree_->value);
  return put(key, list);
}
JsonObject& JsonObject::set(std::string_view key, const std::vector<std::int64_t>& values) { return put(key, values); }
JsonObject& JsonObject::set(std::string_view key, const std::vector<std::string>& values) { return put(key, values); }

/// Infinity and NaN, which JSON lacks, become null; bytes that are not UTF-8, say half a character, U+FFFD.
std::string JsonObject::text(int indent) const {
  return tree_->value.dump(indent, ' ', false, Library::error_handler_t::replace);
}

}  // namespace kv
