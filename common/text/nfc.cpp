#include "common/text/nfc.hpp"

#include <algorithm>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "common/text/unicode_runs.hpp"
#include "common/text/unicode_tables.hpp"
#include "common/text/utf8.hpp"

namespace kv {
namespace {

using Characters = std::u32string;

/// Below, nothing decomposes, follows a letter as its accent or is put into another order.
constexpr char32_t first_decomposed = 0xC0, first_mark = 0x300;

/// Hangul syllables are computed: a leading consonant, a vowel, and maybe a trailing consonant.
/// @see The Unicode Standard, section 3.12
namespace hangul {
constexpr char32_t syllables = 0xAC00, leads = 0x1100, vowels = 0x1161, trails = 0x11A7;  // trail 0 is none
constexpr char32_t lead_count = 19, vowel_count = 21, trail_count = 28;
constexpr char32_t syllable_count = lead_count * vowel_count * trail_count;

bool is_syllable(char32_t c) { return syllables <= c && c < syllables + syllable_count; }

void decompose(char32_t syllable, Characters& parts) {
  const char32_t index = syllable - syllables;
  parts += leads + index / trail_count / vowel_count;
  parts += vowels + index / trail_count % vowel_count;
  if (index % trail_count != 0) parts += trails + index % trail_count;
}

/// 0 where the two make no syllable.
char32_t compose(char32_t first, char32_t second) {
  if (leads <= first && first < leads + lead_count && vowels <= second && second < vowels + vowel_count)
    return syllables + ((first - leads) * vowel_count + second - vowels) * trail_count;
  const bool takes_trail = is_syllable(first) && (first - syllables) % trail_count == 0;
  return takes_trail && trails < second && second < trails + trail_count ? first + second - trails : 0;
}
}  // namespace hangul

/// The database in a form for looking up single characters.
struct Tables {
  struct Pair {
    char32_t first, second;  // second is 0 where there is one only
  };
  std::unordered_map<char32_t, Pair> parts;
  std::unordered_map<std::uint64_t, char32_t> composed;
  std::unordered_map<char32_t, int> combining_class;

  static std::uint64_t key(Pair pair) { return std::uint64_t{pair.first} << 32 | pair.second; }

  Tables() {
    const auto not_composed = std::ranges::find(other_properties, "Not_Composed", &NamedRuns::names);
    const CodePoints excluded = read_runs(not_composed->runs);
    const std::vector<char32_t> numbers = read_numbers(decompositions, 16);
    for (std::size_t i = 0; i < numbers.size(); i += 3) {
      const Pair pair{numbers[i + 1], numbers[i + 2]};
      parts.emplace(numbers[i], pair);
      if (pair.second != 0 && !excluded.contains(numbers[i])) composed.emplace(key(pair), numbers[i]);
    }
    for (const auto& [name, runs] : combining_classes) {
      const CodePoints marks = read_runs(runs);
      for (const auto& [first, last] : marks.ranges())
        for (char32_t mark = first; mark <= last; ++mark)
          combining_class[mark] = static_cast<int>(read_numbers(name, 10).front());
    }
  }
};

const Tables& tables() {
  static const Tables only;
  return only;
}

int combining_class(char32_t c) {
  if (c < first_mark) return 0;
  const auto found = tables().combining_class.find(c);
  return found == tables().combining_class.end() ? 0 : found->second;
}

void decompose(char32_t c, Characters& parts) {
  if (c < first_decomposed) {
    parts += c;
  } else if (hangul::is_syllable(c)) {
    hangul::decompose(c, parts);
  } else if (const auto found = tables().parts.find(c); found != tables().parts.end()) {
    decompose(found->second.first, parts);
    if (found->second.second != 0) decompose(found->second.second, parts);
  } else {
    parts += c;
  }
}

Characters decomposed(std::string_view text) {
  Characters parts;
  parts.reserve(text.size());
  while (!text.empty()) {
    const std::size_t length = character_length(text);
    decompose(code_point(text.substr(0, length)), parts);
    text.remove_prefix(length);
  }
  return parts;
}

/// Accents of one letter in the order of their classes.
void put_marks_in_order(Characters& parts) {
  for (auto begin = parts.begin(); begin != parts.end();) {
    const auto is_mark = [](char32_t c) { return combining_class(c) != 0; };
    begin = std::find_if(begin, parts.end(), is_mark);
    const auto end = std::find_if_not(begin, parts.end(), is_mark);
    std::stable_sort(begin, end, [](char32_t a, char32_t b) { return combining_class(a) < combining_class(b); });
    begin = end;
  }
}

/// The one character for two; 0 where there is none.
char32_t compose(char32_t first, char32_t second) {
  if (second < first_mark) return 0;
  if (const char32_t syllable = hangul::compose(first, second)) return syllable;
  const auto found = tables().composed.find(Tables::key({first, second}));
  return found == tables().composed.end() ? 0 : found->second;
}

/// Joins letters with the accents that reach them: none of their own class or a higher one may stand between.
void join(Characters& parts) {
  std::size_t written = 0, letter = 0;
  bool has_letter = false;
  int class_before = 0;  // of what was written last; 0 when that is the letter
  for (const char32_t c : parts) {
    const int own_class = combining_class(c);
    const bool reaches = has_letter && (class_before == 0 || class_before < own_class);
    if (const char32_t joined = reaches ? compose(parts[letter], c) : 0) {
      parts[letter] = joined;
      continue;
    }
    if (own_class == 0) {
      has_letter = true;
      letter = written;
    }
    class_before = own_class;
    parts[written++] = c;
  }
  parts.resize(written);
}

}  // namespace

std::string nfc(std::string_view text) {
  constexpr char lead_of_first_mark = '\xCC';
  const auto may_change = [](char byte) {
    return static_cast<unsigned char>(byte) >= static_cast<unsigned char>(lead_of_first_mark);
  };
  if (std::ranges::none_of(text, may_change)) return std::string(text);
  Characters parts = decomposed(text);
  put_marks_in_order(parts);
  join(parts);
  std::string composed;
  composed.reserve(text.size());
  for (const char32_t c : parts) composed += to_utf8(c);
  return composed;
}

}  // namespace kv
