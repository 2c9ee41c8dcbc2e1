#include "common/text/regex_alphabet.hpp"

#include <algorithm>
#include <map>

#include "common/files/error.hpp"
#include "common/text/utf8.hpp"

namespace kv {
namespace {

/// Characters in a row that are in the same sets.
struct Stretch {
  char32_t first;
  std::size_t letter;
};

/// Cut wherever a set begins or ends, all with letter 0.
std::vector<Stretch> stretches(const std::vector<CodePoints>& sets) {
  std::vector<char32_t> cuts = {0};
  for (const CodePoints& set : sets)
    for (const auto& [first, last] : set.ranges()) cuts.insert(cuts.end(), {first, last + 1});
  std::ranges::sort(cuts);
  cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
  std::vector<Stretch> all;
  for (const char32_t cut : cuts)
    if (cut <= last_code_point) all.push_back({cut, 0});
  return all;
}

/// Stretches with one letter and the same answer from the set keep one letter.  @return how many letters there are
std::size_t tell_apart(std::vector<Stretch>& stretches, const CodePoints& set) {
  std::map<std::pair<std::size_t, bool>, std::size_t> letters;
  auto range = set.ranges().begin();
  for (Stretch& stretch : stretches) {
    while (range != set.ranges().end() && range->last < stretch.first) ++range;
    const bool inside = range != set.ranges().end() && range->first <= stretch.first;
    stretch.letter = letters.emplace(std::pair(stretch.letter, inside), letters.size()).first->second;
  }
  return letters.size();
}

}  // namespace

RegexAlphabet::RegexAlphabet(const std::vector<CodePoints>& sets, const std::string& where) {
  std::vector<Stretch> all = stretches(sets);
  for (const CodePoints& set : sets)
    if (tell_apart(all, set) > most_letters) throw Error(where + " tells more than 256 kinds of characters apart");

  for (const Stretch& stretch : all)
    if (stretch.letter == representatives_.size()) representatives_.push_back(stretch.first);
  std::map<std::string, std::uint32_t> known;
  auto next = all.begin();
  char letter = 0;
  std::string page(page_size, letter);
  for (char32_t begin = 0; begin <= last_code_point; begin += page_size) {
    for (char32_t c = begin; c < begin + page_size; ++c) {
      if (next != all.end() && next->first == c) letter = static_cast<char>((next++)->letter);
      page[c - begin] = letter;
    }
    const auto [place, is_new] = known.emplace(page, pages_.size());
    if (is_new) pages_.insert(pages_.end(), page.begin(), page.end());
    page_.push_back(place->second);
  }
}

std::string RegexAlphabet::spell(std::string_view text) const {
  std::string letters(text.size(), '\0');  // as many as if all were ASCII
  std::size_t count = 0;
  for (std::size_t at = 0; at < text.size(); ++count) {
    const std::size_t length = character_length(text.substr(at));
    letters[count] = static_cast<char>(letter(code_point(text.substr(at, length))));
    at += length;
  }
  letters.resize(count);
  return letters;
}

}  // namespace kv
