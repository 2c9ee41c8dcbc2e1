#include "common/cuda/simt/proxy.hpp"

#include <algorithm>

#include "common/cuda/simt/block.hpp"

namespace simt {
namespace {

#if defined(SIMT_TRAFFIC)
unsigned now = 1;  ///< moves with each fence; one thread of the operating system runs all blocks
constexpr std::size_t piece_bytes = 2;

/// Calls `visit` for the pieces of these bytes that lie in dynamic shared memory, of whichever block of the cluster.
template <class Visit>
void for_each_piece(const void* address, std::size_t bytes, Visit visit) {
  for (Block* block : Block::current()->cluster->blocks) {
    const char *first = static_cast<const char*>(address), *end = first + bytes;
    first = std::max<const char*>(first, block->shared);
    end = std::min<const char*>(end, block->shared + block->shared_bytes);
    if (first >= end) continue;
    if (block->stores.size() < block->shared_bytes) block->stores.resize(block->shared_bytes);  // seldom: they outlive the block
    Store* store = &block->stores[std::size_t(first - block->shared) / piece_bytes];
    for (; first < end; first += piece_bytes) visit(*store++, *block);
  }
}
#endif

}  // namespace

void fence_proxy_async() {
  mbarrier_init_done();  // they are stores too
#if defined(SIMT_TRAFFIC)
  Block::current()->self().fenced_at = ++now;
#endif
}

#if defined(SIMT_TRAFFIC)
unsigned stores_begin() { return ++now; }

void note_store(const void* address, std::size_t bytes) {
  const Store store{now, &Block::current()->self()};
  for_each_piece(address, bytes, [&](Store& last, const Block&) { last = store; });
}

void require_fenced(const void* address, std::size_t bytes, const char* mistake, const Where& where) {
  const unsigned own = Block::current()->self().fenced_at;
  for_each_piece(address, bytes, [&](const Store& last, const Block& block) {
    if (last.time >= block.stores_begin && last.time >= std::max(last.thread->fenced_at, own)) die(mistake, where);
  });
}

void forget_stores(const void* address, std::size_t bytes) {
  for_each_piece(address, bytes, [](Store& last, const Block&) { last = {}; });
}
#endif

}  // namespace simt
