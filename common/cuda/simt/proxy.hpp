#pragma once
/// @file
/// Two ways to shared memory. Loads and stores take one, TMA and wgmma another, the asynchronous proxy, and what has gone
/// one way need not be seen on the other before a fence_proxy_async of the thread that stored it, or of the one that asks
/// TMA or wgmma for it. TMA and wgmma see each other's work when they have been waited for, and so do loads.
/// Only the build that sees every store can tell: mode "traffic". In the others the functions are empty.
/// @see PTX ISA, "Async proxy"
#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/cuda/simt/runtime.hpp"

namespace simt {

struct Thread;

/// Who has stored last, and when: time passes with each fence.
struct Store {
  unsigned time = 0;  ///< before the block's begin: nobody, or TMA
  const Thread* thread = nullptr;
};

/// When a block began, as stores count time: what is older is another block's.
#if defined(SIMT_TRAFFIC)
unsigned stores_begin();
/// A store of the calling thread's.
void note_store(const void* address, std::size_t bytes);
/// TMA or wgmma goes there on behalf of the calling thread, which dies with `mistake` where a fence is missing.
void require_fenced(const void* address, std::size_t bytes, const char* mistake, const Where& where);
/// TMA has overwritten whatever was stored.
void forget_stores(const void* address, std::size_t bytes);
#else
inline unsigned stores_begin() { return 0; }
inline void note_store(const void*, std::size_t) {}
inline void require_fenced(const void*, std::size_t, const char*, const Where&) {}
inline void forget_stores(const void*, std::size_t) {}
#endif

}  // namespace simt
