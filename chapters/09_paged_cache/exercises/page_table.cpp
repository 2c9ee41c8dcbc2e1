// An exercise, in place of chapters/09_paged_cache/page_table.cpp: see exercises.md
// Tests: 09_paged_cache_test
#include "chapters/09_paged_cache/page_table.hpp"

#include <algorithm>
#include <bit>
#include <map>

#include "common/files/error.hpp"

namespace kv {

PageTable::PageTable(index_t sequences, const PageSizes& sizes, PrefixIndex::Hash hash)
    : sizes_(sizes), pool_(sizes.pages), index_(pool_, sizes.rows, std::move(hash)), entries_(sequences) {
  if (!std::has_single_bit(sizes.rows))
    throw std::invalid_argument("a page of " + std::to_string(sizes.rows) + " rows: must be a power of two");
}

index_t PageTable::add_layer(std::shared_ptr<PageStore> store, index_t window) {
  layers_.push_back(std::move(store));
  window_ = std::max(window_, window);
  for (Entry& entry : entries_) entry.lengths.push_back(0);
  return layers_.size() - 1;
}

/// A page that the batch writes and others hold must be copied, by all that write it or, if nobody
/// else is left to hold it, by all but one.
index_t PageTable::needed(const Batch& batch) const {
  // --- yours ---
  // How many pages reserve(batch) would take from the pool.
  throw std::logic_error("exercise 09 page_table: counting pages is yours to write");
  // --- end ---
}

bool PageTable::has_room(const Batch& batch) const {
  index_t count = needed(batch);
  if (count <= pool_.free()) return true;
  for (const Segment& segment : batch) {  // what a window no longer shows goes back first
    const PageList& pages = entries_.at(segment.sequence).pages;
    for (index_t i = pages.given_back; i < unseen_pages(segment.position) && count > 0; ++i)
      if (pool_.references(pages[i]) == 1) --count;
  }
  return count <= available();
}

void PageTable::require_room(const Batch& batch) const {
  if (!has_room(batch))
    throw Error("the batch needs " + std::to_string(needed(batch)) + " more pages; of " + std::to_string(sizes_.pages) + " " +
                std::to_string(available()) + " can be had: raise --pages, or serve fewer sequences");
}

void PageTable::reserve(const Batch& batch) {
  require_room(batch);
  // --- yours ---
  // For rows position ... position+rows-1 of every segment: give back what no layer sees any more, make the pages that
  // will be written its own, take the missing ones.
  throw std::logic_error("exercise 09 page_table: taking pages is yours to write");
  // --- end ---
}

/// Copy on write.
void PageTable::make_own(index_t& page) {
  // --- yours ---
  // Copy on write, in all layers.
  throw std::logic_error("exercise 09 page_table: the copy is yours to write");
  // --- end ---
}

/// A free page, or the one that nobody has used for longest.
index_t PageTable::take() {
  std::optional<index_t> page = pool_.take();
  if (!page && index_.give_up_one()) page = pool_.take();
  if (!page) throw std::logic_error("a page is taken that require_room did not ask for");
  return *page;
}

/// Of the first pages, how many the token at `position` and those after it do not see. The last full page stays: the next one
/// is remembered under it.
index_t PageTable::unseen_pages(index_t position) const {
  const index_t full = position / sizes_.rows;
  return std::min(seen_from(position) / sizes_.rows, full - std::min<index_t>(full, 1));
}

void PageTable::give_back_unseen(Entry& entry, index_t position) {
  auto& [pages, given_back] = entry.pages;
  const index_t count = std::max(given_back, unseen_pages(position)) - given_back;
  for (index_t i = 0; i < count; ++i) pool_.release(pages[i]);
  pages.erase(pages.begin(), pages.begin() + static_cast<std::ptrdiff_t>(count));
  given_back += count;
}

void PageTable::advance(index_t layer, index_t sequence, index_t rows) { entries_.at(sequence).lengths.at(layer) += rows; }

index_t PageTable::truncate(index_t layer, index_t sequence, index_t length) {
  Entry& entry = entries_.at(sequence);
  require_held(length, entry.lengths.at(layer));
  if (seen_from(length) / sizes_.rows < entry.pages.given_back) length = 0;
  entry.lengths[layer] = length;
  const index_t longest = std::ranges::max(entry.lengths);
  keep(entry, pages_for(longest));
  entry.remembered = std::min(entry.remembered, longest / sizes_.rows);
  return length;
}

/// The first so many pages; the others go back, the last one first.
void PageTable::keep(Entry& entry, index_t count) {
  auto& [pages, given_back] = entry.pages;
  for (; !pages.empty() && entry.pages.end() > count; pages.pop_back()) pool_.release(pages.back());
  if (count == 0) given_back = 0;
}

index_t PageTable::share(index_t layer, index_t from, index_t to, index_t length) {
  const Entry& source = entries_.at(from);
  require_held(length, source.lengths.at(layer));
  if (from == to || seen_from(length) / sizes_.rows < source.pages.given_back) return truncate(layer, to, from == to ? length : 0);
  PageList shared = source.pages;
  shared.pages.resize(pages_for(length) - shared.given_back);
  Entry& target = entries_.at(to);
  for (const index_t page : shared.pages) pool_.retain(page);
  for (const index_t page : target.pages.pages) pool_.release(page);
  target.pages = std::move(shared);
  target.remembered = std::min(source.remembered, length / sizes_.rows);
  return target.lengths.at(layer) = length;
}

PageTable::Outlook PageTable::look_up(std::span<const Token> tokens) const {
  const PrefixIndex::Match match = index_.peek(tokens.first(tokens.size() - 1));
  const auto in_use = std::ranges::count_if(match.pages, [&](index_t page) { return pool_.references(page) > 1; });
  return {.reused = match.pages.size() * sizes_.rows, .pages = pages_for(tokens.size()) - static_cast<index_t>(in_use)};
}

PageTable::Hit PageTable::reuse(index_t sequence, std::span<const Token> tokens) {
  Entry& entry = entries_.at(sequence);
  if (entry.pages.end() > 0) throw std::logic_error("sequence " + std::to_string(sequence) + " is not empty: it cannot begin");
  auto [pages, cut] = index_.find(tokens.first(tokens.size() - 1));  // one token must be fed: its logits are wanted
  for (const index_t page : pages) pool_.retain(page);
  entry.pages.pages = std::move(pages);
  entry.remembered = entry.pages.end();
  const index_t length = entry.remembered * sizes_.rows;
  std::ranges::fill(entry.lengths, length);
  return {.reused = length, .cut = cut};
}

void PageTable::remember(index_t sequence, std::span<const Token> tokens) {
  auto& [pages, lengths, remembered] = entries_.at(sequence);
  const index_t full = std::min(std::ranges::min(lengths), tokens.size()) / sizes_.rows;
  for (; remembered < full && remembered >= pages.given_back; ++remembered) {
    const std::optional<index_t> parent = remembered == 0 ? std::nullopt : std::optional(pages[remembered - 1]);
    const index_t found = index_.insert(parent, tokens.subspan(remembered * sizes_.rows, sizes_.rows), pages[remembered]);
    pool_.retain(found);  // one of the same bits may have been there: then the sequence's own goes back
    pool_.release(std::exchange(pages[remembered], found));
  }
}

PoolUsage PageTable::usage() const {
  PoolUsage usage{.pages = sizes_.pages, .free = pool_.free(), .page_rows = sizes_.rows};
  std::map<index_t, index_t> rows;  // of every page that a sequence holds
  for (const auto& [pages, lengths, remembered] : entries_) {
    const index_t length = lengths.empty() ? 0 : std::ranges::max(lengths);
    for (index_t i = pages.given_back; i < pages.end(); ++i) {
      index_t& held = rows[pages[i]];
      held = std::max(held, std::min(sizes_.rows, length - std::min(length, i * sizes_.rows)));
    }
  }
  for (const auto& [page, held] : rows) usage.rows += held;
  usage.held = rows.size();
  usage.kept = usage.pages - usage.free - usage.held;
  return usage;
}

std::vector<PageView> PageTable::views() const {
  std::vector<PageView> views(sizes_.pages);
  for (index_t page = 0; page < views.size(); ++page) views[page].found = index_.contains(page);
  for (index_t sequence = 0; sequence < entries_.size(); ++sequence)
    for (const index_t page : entries_[sequence].pages.pages) views[page].sequences.push_back(sequence);
  return views;
}

}  // namespace kv
