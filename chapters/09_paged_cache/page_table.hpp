#pragma once
/// @file
/// Which pages hold the rows of which sequence: one table for all layers of a model.
#include <memory>
#include <span>
#include <vector>

#include "chapters/09_paged_cache/block_pool.hpp"
#include "chapters/09_paged_cache/page_store.hpp"
#include "chapters/09_paged_cache/prefix_index.hpp"
#include "common/model/attention.hpp"

namespace kv {

/// Where the pages are. pages = free + kept + held.
struct PoolUsage {
  index_t pages = 0, free = 0;
  index_t kept = 0;  ///< by the index alone: found again, or given up when somebody needs a page
  index_t held = 0;  ///< by sequences, shared ones counted once
  index_t page_rows = 0;
  index_t rows = 0;  ///< in pages that are held, of tokens that a sequence has

  /// Rows of pages that are held and hold nothing: less than a page for each sequence.
  index_t wasted_rows() const { return held * page_rows - rows; }
};

/// What one page is used for.
struct PageView {
  std::vector<index_t> sequences;  ///< that hold it; several: it is shared
  bool found = false;              ///< in the index: another prompt may find it
  std::vector<std::uint64_t> requests = {};  ///< of these sequences, where a scheduler runs them
};

// [table]
/// A page is taken for all layers at once, and page p of every layer holds the rows of the same tokens. A layer asks for the
/// pages of a step before it writes; the first one to ask takes them, the others find them taken. Each layer says how far it
/// has written, so that after a failure all can go back to where they were.
///
/// Invariants: a sequence of n tokens holds ceil(n / rows) pages, less those that no layer's window shows any more. It holds
/// one reference to each, the index one to each that can be found. A sequence writes pages to which it has the only
/// reference: before the first row goes into one that others hold too, it takes a copy (copy on write).
class PageTable {
 public:
  /// @throws std::invalid_argument unless the rows are a power of two
  PageTable(index_t sequences, const PageSizes& sizes, PrefixIndex::Hash hash = chained_hash);

  PageTable(const PageTable&) = delete;  // the index refers to the pool
  PageTable& operator=(const PageTable&) = delete;

  const PageSizes& sizes() const { return sizes_; }

  // What a layer asks for.

  /// @param window how many tokens each one sees in it  @return the layer's number
  index_t add_layer(std::shared_ptr<PageStore> store, index_t window);
  /// Tokens that the layer holds of the sequence.
  index_t length(index_t layer, index_t sequence) const { return entries_.at(sequence).lengths.at(layer); }
  const PageList& pages(index_t sequence) const { return entries_.at(sequence).pages; }
  /// @throws Error when there are not enough pages for the batch, not even when all that nobody holds are given up
  void require_room(const Batch& batch) const;
  /// Takes the pages that the batch will write, and copies those that are shared, in all layers. Pages that no layer sees any
  /// more go back first.  @throws Error as require_room; no page is taken then
  void reserve(const Batch& batch);
  /// The layer has written so many more rows.
  void advance(index_t layer, index_t sequence, index_t rows);
  /// Forgets the layer's tail; pages that no layer has rows in go back.
  /// @return length, or 0 when pages that its next token would see are gone  @throws std::out_of_range for a longer length
  index_t truncate(index_t layer, index_t sequence, index_t length);
  /// Sequence `to` holds the pages of `from` that its first `length` tokens are in.  @return length, or 0 as truncate
  index_t share(index_t layer, index_t from, index_t to, index_t length);

  // What a scheduler asks for.

  /// What of a prompt could be reused, and what it would take from the pool to be held in full.
  struct Outlook {
    index_t reused;  ///< tokens, always fewer than the prompt has
    index_t pages;   ///< that are not held by a sequence yet
  };
  Outlook look_up(std::span<const Token> tokens) const;
  struct Hit {
    index_t reused;  ///< tokens: a multiple of the page, and at least one less than there are
    bool cut;        ///< as PrefixIndex::Match says it
  };
  /// Makes an empty sequence begin with the pages that hold the longest known prefix of these tokens, in all layers.
  Hit reuse(index_t sequence, std::span<const Token> tokens);
  /// Makes the full pages of a sequence findable. One that is there already replaces the sequence's own, which goes back.
  /// @param tokens of the sequence, at least those that all layers hold
  void remember(index_t sequence, std::span<const Token> tokens);
  /// Pages that the batch would take, copies of shared ones included.
  index_t needed(const Batch& batch) const;
  /// Pages that can be taken: free ones, and those that the index may give up.
  index_t available() const { return pool_.free() + index_.reclaimable(); }
  bool has_room(const Batch& batch) const;

  PoolUsage usage() const;
  std::vector<PageView> views() const;

 private:
  struct Entry {
    PageList pages;
    std::vector<index_t> lengths;  // of every layer
    index_t remembered = 0;        // of its pages, the first so many are in the index
  };
  index_t pages_for(index_t tokens) const { return (tokens + sizes_.rows - 1) / sizes_.rows; }
  index_t seen_from(index_t position) const { return position + 1 - std::min(window_, position + 1); }
  index_t unseen_pages(index_t position) const;
  index_t take();
  void give_back_unseen(Entry& entry, index_t position);
  void make_own(index_t& page);
  void keep(Entry& entry, index_t pages);

  PageSizes sizes_;
  BlockPool pool_;
  PrefixIndex index_;
  index_t window_ = 0;  // the widest of all layers
  std::vector<std::shared_ptr<PageStore>> layers_;
  std::vector<Entry> entries_;  // of every sequence
};

}  // namespace kv
