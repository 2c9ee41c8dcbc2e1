#include "common/text/byte_pair.hpp"

#include <queue>
#include <unordered_set>

#include "common/files/error.hpp"
#include "common/text/tokenizer_json.hpp"
#include "common/text/utf8.hpp"

namespace kv {
namespace {

/// Stands before the first and after the last symbol of a word. No merge has it.
constexpr Token edge = -1;

/// A part of the word that is one token so far. Joining leaves the right part's place empty.
struct Symbol {
  Token token;
  std::size_t previous, next;
};

/// Two neighbours that could be joined: `left` is the place of the first.
struct Candidate {
  std::size_t rank, left;
  Token left_token, right_token, joined;

  /// The pair that was learnt first comes first; of equal pairs the leftmost.
  bool operator>(const Candidate& other) const {
    return rank != other.rank ? rank > other.rank : left > other.left;
  }
};
using Candidates = std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>>;

/// The symbols of a word in a row, with an edge at either end.
std::vector<Symbol> row_of_symbols(const std::vector<Token>& spelling) {
  std::vector<Symbol> symbols;
  symbols.reserve(spelling.size() + 2);
  symbols.push_back({edge, 0, 1});
  for (const Token token : spelling) symbols.push_back({token, symbols.size() - 1, symbols.size() + 1});
  symbols.push_back({edge, symbols.size() - 1, symbols.size()});
  return symbols;
}

/// Joins a symbol with the one after it.
void join(std::vector<Symbol>& symbols, std::size_t left, Token joined) {
  Symbol& right = symbols[symbols[left].next];
  symbols[left].token = joined;
  symbols[left].next = right.next;
  symbols[right.next].previous = left;
  right.token = edge;
}

std::uint64_t pair_key(Token left, Token right) {
  return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
}

void refuse_unless_empty(const Json& model, std::string_view key) {
  if (model.has(key) && !model.at(key).text().empty()) throw Error(model.at(key).where() + " is not supported");
}

}  // namespace

std::vector<Token> BytePair::join_pairs(const std::vector<Token>& spelling) const {
  std::vector<Symbol> symbols = row_of_symbols(spelling);
  Candidates candidates;
  const auto consider = [&](std::size_t left) {
    const Token left_token = symbols[left].token, right_token = symbols[symbols[left].next].token;
    if (const Merge* merge = merge_of(left_token, right_token))
      candidates.push({merge->rank, left, left_token, right_token, merge->joined});
  };
  const auto still_there = [&](const Candidate& pair) {  // unless one of the two was joined with its other neighbour
    const Symbol& left = symbols[pair.left];
    return left.token == pair.left_token && symbols[left.next].token == pair.right_token;
  };

  for (std::size_t i = 1; i <= spelling.size(); ++i) consider(i);
  while (!candidates.empty()) {
    const Candidate first_learnt = candidates.top();
    candidates.pop();
    if (!still_there(first_learnt)) continue;
    join(symbols, first_learnt.left, first_learnt.joined);
    consider(symbols[first_learnt.left].previous);
    consider(first_learnt.left);
  }

  std::vector<Token> tokens;
  for (const Symbol* symbol = &symbols[symbols[0].next]; symbol->token != edge; symbol = &symbols[symbol->next])
    tokens.push_back(symbol->token);
  return tokens;
}

void BytePair::encode(std::string_view word, std::vector<Token>& tokens) const {
  if (whole_words_first_)
    if (const auto whole = find(word)) return tokens.push_back(*whole);
  for (const Token token : join_pairs(spell(word))) tokens.push_back(token);
}

/// The word character by character: what merging starts from.
std::vector<Token> BytePair::spell(std::string_view word) const {
  std::vector<Token> spelling;
  bool after_unknown = false;
  while (!word.empty()) {
    const std::string_view character = word.substr(0, character_length(word));
    word.remove_prefix(character.size());
    const auto token = find(character);
    const bool unknown = !token && token_of_byte_.empty();
    if (unknown && !unknown_)
      throw Error("the tokenizer has no token for " + excerpt(character) + ", and none for what is unknown");
    if (token) spelling.push_back(*token);
    else if (!unknown)
      for (const char byte : character) spelling.push_back(token_of_byte_[static_cast<unsigned char>(byte)]);
    else if (!(after_unknown && fuse_unknown_)) spelling.push_back(*unknown_);
    after_unknown = unknown;
  }
  return spelling;
}

std::optional<Token> BytePair::find(std::string_view text) const {
  const auto found = vocabulary_.find(text);
  return found == vocabulary_.end() ? std::nullopt : std::optional(found->second);
}

const BytePair::Merge* BytePair::merge_of(Token left, Token right) const {
  const auto found = merges_.find(pair_key(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

// ---- reading ----

BytePair::BytePair(const Json& model) {
  if (text_or(model, "type", "BPE") != "BPE") throw_unknown_type(model);  // old files have no type
  require_known_keys(model, {"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
                             "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges"});
  if (model.has("dropout") && model.at("dropout").number() != 0)
    throw Error(model.at("dropout").where() + " is not 0: random merges are for training");
  refuse_unless_empty(model, "continuing_subword_prefix");
  refuse_unless_empty(model, "end_of_word_suffix");
  whole_words_first_ = flag_or(model, "ignore_merges", false);
  read_vocabulary(model.at("vocab"));
  read_merges(model.at("merges"));
  read_unknown(model);
}

void BytePair::read_vocabulary(const Json& vocabulary) {
  std::unordered_set<Token> taken;
  for (const std::string& text : vocabulary.keys()) {
    const Json entry = vocabulary.at(text);
    const Token token = read_token(entry);
    if (!taken.insert(token).second)
      throw Error(entry.where() + " is " + std::to_string(token) + ", which another token has");
    vocabulary_.emplace(text, token);
  }
}

void BytePair::read_merges(const Json& merges) {
  for (index_t rank = 0; rank < merges.length(); ++rank) {
    const Json merge = merges.at(rank);
    const auto [left, right] = read_pair(merge);
    const Token left_token = require_token(left, merge), right_token = require_token(right, merge);
    merges_.insert_or_assign(pair_key(left_token, right_token), Merge{rank, require_token(left + right, merge)});
  }
}

Token BytePair::require_token(const std::string& text, const Json& merge) const {
  if (const auto token = find(text)) return *token;
  throw Error(merge.where() + " needs a token that model.vocab lacks");
}

void BytePair::read_unknown(const Json& model) {
  fuse_unknown_ = flag_or(model, "fuse_unk", false);
  if (model.has("unk_token")) {
    unknown_ = find(model.at("unk_token").text());
    if (!unknown_) throw Error(model.at("unk_token").where() + " is not in model.vocab");
  }
  if (!flag_or(model, "byte_fallback", false)) return;
  for (int byte = 0; byte < 256; ++byte) {
    const std::string text = byte_token(static_cast<unsigned char>(byte));
    const auto token = find(text);
    if (!token) throw Error(model.at("byte_fallback").where() + " is set, but model.vocab has no " + text);
    token_of_byte_.push_back(*token);
  }
}

std::string byte_token(unsigned char byte) {
  constexpr std::string_view digits = "0123456789ABCDEF";
  return std::string("<0x") + digits[byte >> 4] + digits[byte & 0xF] + ">";
}

std::optional<unsigned char> byte_of_token(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || !token.ends_with(">")) return std::nullopt;
  const auto digit = [&](std::size_t i) -> std::optional<int> {
    const char c = token[i];
    if ('0' <= c && c <= '9') return c - '0';
    if ('A' <= c && c <= 'F') return c - 'A' + 10;
    if ('a' <= c && c <= 'f') return c - 'a' + 10;
    return std::nullopt;
  };
  const auto high = digit(3), low = digit(4);
  if (!high || !low) return std::nullopt;
  return static_cast<unsigned char>(*high * 16 + *low);
}

}  // namespace kv
