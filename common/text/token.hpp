#pragma once
/// @file
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>

namespace kv {

/// The id of a token: a row of the embedding.
using Token = int;

/// Lets a map with std::string keys be searched for a std::string_view.
struct TextHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
};

/// A map by text.
template <class T>
using TextMap = std::unordered_map<std::string, T, TextHash, std::equal_to<>>;

}  // namespace kv
