#pragma once
/// @file
/// Pages by number: which are free, and how many hold each of the others.
#include <optional>
#include <vector>

#include "common/tensor/tensor.hpp"

namespace kv {

/// Counts references to pages 0 ... size()-1. What lies in a page is not its affair.
///
/// Invariants: a page has no references if and only if it is in the free list, there once. A page is given out with one
/// reference. Whoever holds the only reference may write the page; nobody else may.
class BlockPool {
 public:
  explicit BlockPool(index_t pages);

  /// A free page, with one reference; none when there is none.
  std::optional<index_t> take();
  /// One more reference.  @throws std::logic_error for a page that is free
  void retain(index_t page);
  /// One less; the last one frees the page.  @throws std::logic_error for a page that is free: it was given back before
  void release(index_t page);

  index_t references(index_t page) const { return references_.at(page); }
  index_t free() const { return free_.size(); }
  index_t size() const { return references_.size(); }

 private:
  void require_held(index_t page) const;

  std::vector<index_t> references_;  // of every page
  std::vector<index_t> free_;        // the latest given back is taken first
};

}  // namespace kv
