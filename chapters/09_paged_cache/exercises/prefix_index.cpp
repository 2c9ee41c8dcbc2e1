// An exercise, in place of chapters/09_paged_cache/prefix_index.cpp: see exercises.md
// Tests: 09_paged_cache_test
#include "chapters/09_paged_cache/prefix_index.hpp"

#include <algorithm>

namespace kv {

PrefixIndex::PrefixIndex(BlockPool& pool, index_t page_rows, Hash hash)
    : pool_(pool), page_rows_(page_rows), hash_(std::move(hash)), nodes_(pool.size()) {}

PrefixIndex::Match PrefixIndex::peek(std::span<const Token> tokens) const {
  // --- yours ---
  // Page after page, as long as one is known under the last.
  throw std::logic_error("exercise 09 prefix_index: the path is yours to follow");
  // --- end ---
}

/// The hash says where to look; tokens and parent say whether it is the page.
std::optional<index_t> PrefixIndex::child(std::optional<index_t> parent,
                                          std::span<const Token> tokens) const {
  // --- yours ---
  // The page of these tokens (page_rows_) under this parent. by_hash_ says where to look.
  throw std::logic_error("exercise 09 prefix_index: the look-up is yours to write");
  // --- end ---
}

PrefixIndex::Match PrefixIndex::find(std::span<const Token> tokens) {
  Match match = peek(tokens);
  for (const index_t page : match.pages) touch(page);
  return match;
}

index_t PrefixIndex::insert(std::optional<index_t> parent, std::span<const Token> tokens, index_t page) {
  if (parent && !contains(*parent)) throw std::logic_error("page " + std::to_string(*parent) + " is not in the index");
  if (const std::optional<index_t> there = child(parent, tokens)) return *there;
  if (contains(page)) throw std::logic_error("page " + std::to_string(page) + " is in the index, for other tokens");
  pool_.retain(page);
  const std::uint64_t hash = hash_after(parent, tokens);
  nodes_[page] = Node{parent, hash, {tokens.begin(), tokens.end()}, ++clock_};
  by_hash_.emplace(hash, page);
  leaves_.emplace(clock_, page);
  if (parent && nodes_[*parent]->children++ == 0) leaves_.erase({nodes_[*parent]->last_used, *parent});
  return page;
}

std::uint64_t PrefixIndex::hash_after(std::optional<index_t> parent, std::span<const Token> tokens) const {
  return hash_(parent ? nodes_[*parent]->hash : 0, tokens);
}

void PrefixIndex::touch(index_t page) {
  Node& node = *nodes_[page];
  const bool is_leaf = leaves_.erase({node.last_used, page}) > 0;
  node.last_used = ++clock_;
  if (is_leaf) leaves_.emplace(node.last_used, page);
}

bool PrefixIndex::give_up_one() {
  // --- yours ---
  // False when there is none. take_out(page) and pool_.release(page) do the rest.
  throw std::logic_error("exercise 09 prefix_index: whom to give up is yours to choose");
  // --- end ---
}

void PrefixIndex::take_out(index_t page) {
  const Node node = *std::exchange(nodes_[page], std::nullopt);
  const auto [first, last] = by_hash_.equal_range(node.hash);
  const auto is_page = [&](const auto& entry) { return entry.second == page; };
  by_hash_.erase(std::find_if(first, last, is_page));
  leaves_.erase({node.last_used, page});
  if (node.parent && --nodes_[*node.parent]->children == 0)
    leaves_.emplace(nodes_[*node.parent]->last_used, *node.parent);
}

index_t PrefixIndex::reclaimable() const {
  std::vector<bool> stays(nodes_.size(), false);  // held by a sequence, or before a page that is
  for (index_t page = 0; page < nodes_.size(); ++page)
    if (contains(page) && pool_.references(page) > 1)
      for (std::optional<index_t> each = page; each && !stays[*each]; each = nodes_[*each]->parent) stays[*each] = true;
  return size() - static_cast<index_t>(std::ranges::count(stays, true));
}

std::uint64_t chained_hash(std::uint64_t before, std::span<const Token> tokens) {
  std::uint64_t hash = 0xcbf29ce484222325;
  const auto mix = [&](std::uint64_t bytes) {
    for (int i = 0; i < 64; i += 8) hash = (hash ^ (bytes >> i & 0xff)) * 0x100000001b3;
  };
  mix(before);
  for (const Token token : tokens) mix(static_cast<std::uint64_t>(token));
  return hash;
}

}  // namespace kv
