#pragma once
/// @file
/// Byte-pair encoding: a word becomes tokens by joining, again and again, the two neighbours whose pair was learnt
/// first.
/// @see Sennrich et al. 2016, arXiv:1508.07909, algorithm 1
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/files/json.hpp"
#include "common/text/token.hpp"

namespace kv {

/// What is learnt: a vocabulary, and the pairs to join with their ranks.
class BytePair {
 public:
  /// The `model` of tokenizer.json.
  /// @throws Error naming the key: another type of model, an id that is negative, too large or given twice, a merge of
  /// what the vocabulary lacks, a feature that is not supported
  explicit BytePair(const Json& model);

  /// Appends the tokens of one word. Its cost is n log n in the word's length n: a text without spaces is one word.
  /// @param word UTF-8  @throws Error when a character is in no token and there is no token for the unknown
  void encode(std::string_view word, std::vector<Token>& tokens) const;

  const TextMap<Token>& vocabulary() const { return vocabulary_; }
  std::optional<Token> find(std::string_view text) const;

 private:
  struct Merge {
    std::size_t rank;  ///< the pair that was learnt first has rank 0
    Token joined;
  };

  void read_vocabulary(const Json& vocabulary);
  void read_merges(const Json& merges);
  void read_unknown(const Json& model);
  Token require_token(const std::string& text, const Json& merge) const;
  std::vector<Token> spell(std::string_view word) const;
  std::vector<Token> join_pairs(const std::vector<Token>& spelling) const;
  const Merge* merge_of(Token left, Token right) const;

  TextMap<Token> vocabulary_;
  std::unordered_map<std::uint64_t, Merge> merges_;  // by left token and right token
  bool whole_words_first_;             // a word that is a token needs no merges (Llama 3)
  bool fuse_unknown_;                  // unknown characters in a row become one token
  std::optional<Token> unknown_;
  std::vector<Token> token_of_byte_;   // 256 tokens that spell characters the vocabulary lacks (Llama 2), or none
};

/// The token that stands for one byte: "<0x0A>".
std::string byte_token(unsigned char byte);
/// The byte that a token stands for, if it is such a token.
std::optional<unsigned char> byte_of_token(std::string_view token);

}  // namespace kv
