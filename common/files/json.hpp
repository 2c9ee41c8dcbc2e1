#pragma once
/// @file
/// JSON with typed access and errors that name the file and the key. All that is read goes through json.cpp.
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/tensor/tensor.hpp"

namespace kv {

/// A value inside a JSON document, with the path that leads to it. Cheap to copy.
/// Every access that does not fit throws Error: "config.json: rope_scaling.factor is missing".
class Json {
 public:
  /// @param where names the document in errors
  static Json parse(std::string_view text, std::string where);
  static Json read(const std::filesystem::path& file);

  bool is_null() const;
  bool is_object() const;
  bool is_array() const;
  bool is_text() const;
  bool is_number() const;
  bool is_flag() const;

  /// An object has the key and its value is not null.
  bool has(std::string_view key) const;
  /// An object has the key, perhaps with null.
  bool contains(std::string_view key) const;
  Json at(std::string_view key) const;
  /// Keys of an object, in the file's order.
  std::vector<std::string> keys() const;

  /// Elements of an array.
  index_t length() const;
  Json at(index_t index) const;

  std::string text() const;
  double number() const;
  /// A whole number; an error for fractions and for what does not fit.
  std::int64_t integer() const;
  /// A whole number that is not negative.
  index_t size() const;
  bool flag() const;

  /// "config.json: rope_scaling.factor", for errors of the caller's own.
  std::string where() const;

 private:
  struct Node;
  explicit Json(std::shared_ptr<const Node> node);
  std::shared_ptr<const Node> node_;
};

/// One JSON object written key by key, in order. Numbers are printed so that they read back the same.
class JsonObject {
 public:
  JsonObject();
  JsonObject& set(std::string_view key, std::string_view value);
  JsonObject& set(std::string_view key, const char* value);
  JsonObject& set(std::string_view key, double value);
  JsonObject& set(std::string_view key, index_t value);
  JsonObject& set(std::string_view key, std::int64_t value);
  JsonObject& set(std::string_view key, bool value);
  JsonObject& set(std::string_view key, const JsonObject& value);
  JsonObject& set(std::string_view key, const std::vector<JsonObject>& values);
  JsonObject& set(std::string_view key, const std::vector<std::int64_t>& values);
  JsonObject& set(std::string_view key, const std::vector<std::string>& values);
  /// @param indent spaces per level; negative: one line
  std::string text(int indent = 2) const;

 private:
  struct Tree;  // the library's, which its users need not read
  template <class T>
  JsonObject& put(std::string_view key, const T& value);
  std::shared_ptr<Tree> tree_;
};

}  // namespace kv
