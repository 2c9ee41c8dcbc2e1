#include "chapters/09_paged_cache/block_pool.hpp"

#include <numeric>

namespace kv {

BlockPool::BlockPool(index_t pages) : references_(pages, 0), free_(pages) {
  std::iota(free_.rbegin(), free_.rend(), index_t{0});  // page 0 is taken first
}

std::optional<index_t> BlockPool::take() {
  if (free_.empty()) return std::nullopt;
  const index_t page = free_.back();
  free_.pop_back();
  references_[page] = 1;
  return page;
}

void BlockPool::retain(index_t page) {
  require_held(page);
  ++references_[page];
}

void BlockPool::release(index_t page) {
  require_held(page);
  if (--references_[page] == 0) free_.push_back(page);
}

void BlockPool::require_held(index_t page) const {
  if (references_.at(page) == 0) throw std::logic_error("page " + std::to_string(page) + " is free: it was given back before");
}

}  // namespace kv
