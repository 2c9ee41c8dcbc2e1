#pragma once
/// @file
/// Full pages by the tokens that they were made from, and all tokens before them.
#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <span>
#include <unordered_map>
#include <vector>

#include "chapters/09_paged_cache/block_pool.hpp"
#include "common/text/token.hpp"

namespace kv {

/// A tree of pages: a page's parent holds the tokens just before its own. Rows depend on all tokens up to theirs, so a page
/// may be used again where its whole path is the same, and nowhere else.
///
/// Invariants: the index holds one reference to every page in it, so no page is given out or written while it can be found.
/// A page is in the index once. Of two pages of the same tokens and parent one is in it. A page is taken out after its
/// children. So what is found is always a whole path from a first page on.
///
/// A page is found by a hash that is chained over the path, and is what was looked for only if its tokens and its parent
/// are: a hash alone would one day hand out the rows of another text.
/// @see Zheng et al. 2024, section 3, arXiv:2312.07104, for the tree; Kwon et al. 2023, section 4.3, arXiv:2309.06180
class PrefixIndex {
 public:
  /// Of a path: from the hash of what is before a page, and its tokens.
  using Hash = std::function<std::uint64_t(std::uint64_t before, std::span<const Token> tokens)>;

  /// @param pool outlives the index
  PrefixIndex(BlockPool& pool, index_t page_rows, Hash hash);

  /// The longest path that the tokens begin with.
  struct Match {
    std::vector<index_t> pages;
    bool cut;  ///< it ends where the index goes on, with another page than the next of these tokens
  };
  /// They count as used now. They are not retained: the caller does that, before anything can give them up.
  /// @param tokens only whole pages of them are looked for
  Match find(std::span<const Token> tokens);
  /// The same, for who only wants to know.
  Match peek(std::span<const Token> tokens) const;

  /// Puts a full page into the index, under its parent, unless one of the same tokens is there.
  /// @param parent in the index; none: a first page  @param tokens of the page  @param page not in the index
  /// @return the page that is in the index now: this one or the one that was there
  index_t insert(std::optional<index_t> parent, std::span<const Token> tokens, index_t page);

  /// Takes out the page that was not used for longest, of those without children that nobody else holds, and gives it back
  /// to the pool.  @return whether there was one
  bool give_up_one();

  /// Pages that give_up_one() could give back, one after the other.
  index_t reclaimable() const;
  bool contains(index_t page) const { return nodes_.at(page).has_value(); }
  index_t size() const { return by_hash_.size(); }

 private:
  struct Node {
    std::optional<index_t> parent;
    std::uint64_t hash;
    std::vector<Token> tokens;
    std::uint64_t last_used;
    index_t children = 0;
  };
  std::uint64_t hash_after(std::optional<index_t> parent, std::span<const Token> tokens) const;
  std::optional<index_t> child(std::optional<index_t> parent, std::span<const Token> tokens) const;
  void touch(index_t page);
  void take_out(index_t page);

  BlockPool& pool_;
  index_t page_rows_;
  Hash hash_;
  std::vector<std::optional<Node>> nodes_;                   // by page
  std::unordered_multimap<std::uint64_t, index_t> by_hash_;  // pages
  std::set<std::pair<std::uint64_t, index_t>> leaves_;       // (last used, page) without children
  std::uint64_t clock_ = 0;
};

/// FNV-1a over the bytes of the hash before and of the tokens.
std::uint64_t chained_hash(std::uint64_t before, std::span<const Token> tokens);

}  // namespace kv
