#include "common/cuda/simt/proxy.hpp"

#include <algorithm>

#include "common/cuda/simt/block.hpp"

namespace simt {

void fence_proxy_async() {
  Block& block = *Block::current();
  block.self().fenced_at = ++block.stores.time;
  mbarrier_init_done();  // they are stores too
}

#if defined(SIMT_TRAFFIC)
namespace {

constexpr std::size_t piece_bytes = 2;

/// Calls `visit` for the pieces of these bytes that lie in the block's dynamic shared memory.
template <class Visit>
void for_each_piece(const void* address, std::size_t bytes, Visit visit) {
  Block& block = *Block::current();
  const char *first = static_cast<const char*>(address), *end = first + bytes;
  first = std::max<const char*>(first, block.shared), end = std::min<const char*>(end, block.shared + block.shared_bytes);
  block.stores.last.resize(block.shared_bytes / piece_bytes + 1);
  for (; first < end; first += piece_bytes) visit(block, block.stores.last[std::size_t(first - block.shared) / piece_bytes]);
}

}  // namespace

void note_store(const void* address, std::size_t bytes) {
  for_each_piece(address, bytes, [](Block& block, Stores::Last& last) { last = {block.stores.time, block.self().number}; });
}

void require_fenced(const void* address, std::size_t bytes, const char* mistake, const Where& where) {
  for_each_piece(address, bytes, [&](Block& block, const Stores::Last& last) {
    if (last.time >= std::max({block.thread(last.thread).fenced_at, block.self().fenced_at, 1u})) die(mistake, where);
  });
}

void forget_stores(const void* address, std::size_t bytes) {
  for_each_piece(address, bytes, [](Block&, Stores::Last& last) { last = {}; });
}
#endif

}  // namespace simt
