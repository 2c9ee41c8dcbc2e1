#pragma once
/// @file
/// Stage `fastgen`: every head is watched while the prompt is fed and then keeps the least that is enough for it.
#include <memory>

#include "chapters/07_long_context/row_notes.hpp"
#include "chapters/07_long_context/forgetting_policy.hpp"
#include "chapters/07_long_context/token_kinds.hpp"

namespace kv {

/// What a head keeps, from the cheapest on. Each but the last holds what stands before it, too.
enum class HeadNeeds : unsigned char {
  special,      ///< rows of special tokens
  punctuation,  ///< and of punctuation
  frequent,     ///< and the budget / 2 rows that got the most attention so far
  local,        ///< and the latest budget / 2, a token's own counted
  everything,
};

/// The numbers of FastGen.
struct FastGenSizes {
  index_t budget;  ///< nothing is given up while the text has no more tokens
  double mass;     ///< of a head's attention in the prompt that must be kept, 1: all
};

/// While a prompt is fed every row is held. At its end each head gets the first of HeadNeeds whose rows had received, over all
/// tokens of the prompt, at least the share `mass` of its attention. Of what was generated since, a head keeps what its needs
/// say; a token always sees its own row.
/// @see Ge et al. 2023, section 3 and algorithm 1 (FastGen), arXiv:2310.01801. There frequent and local rows are a share of the
/// text, here they are numbers that do not grow.
class FastGen : public ForgettingPolicy {
 public:
  /// @param kinds of ids; an id that it does not hold is a word
  FastGen(index_t heads, const FastGenSizes& sizes, std::shared_ptr<const TokenKinds> kinds);

  void after(const Attended& token) override;
  void prompt_ends(const RowSource& rows) override;
  std::vector<index_t> victims(index_t g) const override;
  index_t spare() const override;
  void drop(index_t g, std::span<const index_t> indices) override { notes_.drop(g, indices); }
  StateBytes bytes() const override { return notes_.bytes(); }

  /// Of each head, since the end of the prompt.
  const std::vector<HeadNeeds>& needs() const { return needs_; }

 private:
  /// Attention that a row got: from its own token, from those for whom it was one of the latest, from others.
  struct Note {
    double own = 0.0, near = 0.0, far = 0.0;
    TokenKind kind;
    double sum() const { return own + near + far; }
  };
  TokenKind kind(std::optional<Token> token) const;
  std::vector<bool> kept(index_t g, HeadNeeds needs) const;
  double mass(index_t g, HeadNeeds needs) const;

  FastGenSizes sizes_;
  std::shared_ptr<const TokenKinds> kinds_;
  RowNotes<Note> notes_;
  std::vector<HeadNeeds> needs_;  // (G)
  index_t tokens_ = 0;
};

}  // namespace kv
