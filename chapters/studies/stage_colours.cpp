#include "chapters/studies/stage_colours.hpp"

#include <iterator>

namespace kv {
namespace {

struct Entry {
  std::string_view name;
  PageColour colour;
};

/// Names of one colour keep the same rows: a full cache is what `preallocated` has, a window what `ring` has.
/// docs/check reads this table.
constexpr Entry table[] = {
    {"uncached", {"#c2410c", "#f59f6c"}},
    {"concat", {"#1d6fb8", "#6cb6ff"}},
    {"preallocated", {"#2c8a3d", "#6bd383"}},
    {"full cache", {"#2c8a3d", "#6bd383"}},
    {"naive", {"#2c8a3d", "#6bd383"}},
    {"MLA, full K/V", {"#2c8a3d", "#6bd383"}},
    {"absorbed", {"#8250df", "#c9a8ff"}},
    {"MLA latent", {"#8250df", "#c9a8ff"}},
    {"decompressed", {"#9a6700", "#e3b341"}},
    {"window", {"#0e7490", "#67d4e8"}},
    {"ring", {"#0e7490", "#67d4e8"}},
    {"4 sinks and a window", {"#3730a3", "#a5b4fc"}},
    {"streaming", {"#3730a3", "#a5b4fc"}},
    {"heavy-hitters", {"#b4237a", "#f472b6"}},
    {"lru", {"#7c4a21", "#d6a47c"}},
    {"snap", {"#6b7280", "#c5ccd3"}},
    {"fastgen", {"#5c7a00", "#b5d94c"}},
};

constexpr PageColour others[] = {
    {"#be123c", "#fda4af"}, {"#0369a1", "#7dd3fc"}, {"#a16207", "#fde047"},
    {"#4d7c0f", "#a3e635"}, {"#6d28d9", "#d8b4fe"}};

/// Does `name` begin with the whole of `word`?
bool begins(std::string_view name, std::string_view word) {
  return name.starts_with(word) && (name.size() == word.size() || name[word.size()] == ' ' || name[word.size()] == ',');
}

}  // namespace

const PageColour* stage_colour(std::string_view name) {
  for (const Entry& entry : table)
    if (begins(name, entry.name)) return &entry.colour;
  return nullptr;
}

PageColour other_colour(std::size_t number) { return others[number % std::size(others)]; }

}  // namespace kv
