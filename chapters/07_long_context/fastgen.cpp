#include "chapters/07_long_context/fastgen.hpp"

#include <numeric>

#include "chapters/07_long_context/group_weights.hpp"

namespace kv {

FastGen::FastGen(index_t heads, const FastGenSizes& sizes, std::shared_ptr<const TokenKinds> kinds)
    : sizes_(sizes), kinds_(std::move(kinds)), notes_(heads, 0), needs_(heads, HeadNeeds::everything) {}

TokenKind FastGen::kind(std::optional<Token> token) const {
  const index_t id = token ? static_cast<index_t>(*token) : kinds_->size();
  return id < kinds_->size() ? (*kinds_)[id] : TokenKind::word;
}

// [after]
void FastGen::after(const Attended& token) {
  const Tensor<2> weights = added_weights(token);
  for (index_t g = 0; g < notes_.heads(); ++g) {
    std::vector<Note>& notes = notes_[g];
    notes.push_back({.kind = kind(token.token)});
    const index_t last = notes.size() - 1;
    notes[last].own = static_cast<double>(weights(g, last));
    for (index_t s = 0; s < last; ++s) {
      const bool is_near = last - s < sizes_.budget / 2;
      (is_near ? notes[s].near : notes[s].far) += static_cast<double>(weights(g, s));
    }
  }
  ++tokens_;
}
// [after]

/// The rows that stay whatever comes: all that is needed, except for those that are only near.
std::vector<bool> FastGen::kept(index_t g, HeadNeeds needs) const {
  const std::vector<Note>& notes = notes_[g];
  std::vector<bool> result(notes.size(), needs == HeadNeeds::everything);
  for (index_t s = 0; s < notes.size(); ++s)
    if (notes[s].kind == TokenKind::special || (needs >= HeadNeeds::punctuation && notes[s].kind == TokenKind::punctuation))
      result[s] = true;
  if (needs < HeadNeeds::frequent) return result;
  std::vector<index_t> by_use(notes.size());
  std::iota(by_use.begin(), by_use.end(), index_t{0});
  std::ranges::stable_sort(by_use, [&](index_t a, index_t b) { return notes[a].sum() > notes[b].sum(); });
  for (index_t i = 0; i < std::min(by_use.size(), sizes_.budget / 2); ++i) result[by_use[i]] = true;
  return result;
}

// [mass]
double FastGen::mass(index_t g, HeadNeeds needs) const {
  const std::vector<bool> stays = kept(g, needs);
  double kept = 0.0, all = 0.0;
  for (index_t s = 0; s < stays.size(); ++s) {
    const Note& note = notes_[g][s];
    all += note.sum();
    kept += stays[s] ? note.sum() : note.own + (needs == HeadNeeds::local ? note.near : 0.0);
  }
  return kept / all;
}

void FastGen::prompt_ends(const RowSource&) {
  for (index_t g = 0; g < needs_.size(); ++g) {
    needs_[g] = HeadNeeds::special;
    while (needs_[g] < HeadNeeds::everything && !(mass(g, needs_[g]) >= sizes_.mass))
      needs_[g] = static_cast<HeadNeeds>(static_cast<int>(needs_[g]) + 1);
  }
}
// [mass]

index_t FastGen::spare() const {
  const bool holds_everything = std::ranges::all_of(needs_, [](HeadNeeds needs) { return needs == HeadNeeds::everything; });
  return holds_everything ? no_limit : sizes_.budget - std::min(sizes_.budget, tokens_);
}

// [victims]
std::vector<index_t> FastGen::victims(index_t g) const {
  if (tokens_ < sizes_.budget || needs_[g] == HeadNeeds::everything) return {};
  const std::vector<bool> stays = kept(g, needs_[g]);
  std::vector<index_t> result;
  for (index_t s = 0; s < stays.size(); ++s) {
    const bool is_near = stays.size() - s < sizes_.budget / 2;  // to the token that comes
    if (!stays[s] && !(is_near && needs_[g] == HeadNeeds::local)) result.push_back(s);
  }
  return result;
}
// [victims]

}  // namespace kv
