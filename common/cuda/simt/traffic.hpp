#pragma once
/// @file
/// Counts what a kernel asks of memory, per source line. The compiler calls us at every load and store (the build for
/// this, KV mode "traffic", is instrumented as for ThreadSanitizer, with these functions in its runtime's place).
///
/// Lanes of a warp that execute a load or store for the same time make one request. In global memory it costs as many
/// sectors of 32 bytes as it touches; in shared memory as many wavefronts as its busiest bank has different words.
/// Nothing is known of caches: a sector that is asked for twice counts twice. Local variables do not count.
#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "common/cuda/simt/runtime.hpp"

namespace simt {

/// What some loads or stores add up to.
struct Access {
  long requests = 0;      ///< of a warp
  long bytes = 0;         ///< that the lanes asked for
  long sectors = 0;       ///< global: of 32 bytes
  long wavefronts = 0;    ///< shared
  long unique_bytes = 0;  ///< different bytes, in the whole measurement

  /// Global: which part of the sectors' bytes was asked for; 1 where every request is coalesced.
  double used() const { return static_cast<double>(bytes) / (32.0 * static_cast<double>(sectors)); }
  /// Shared: 1 where no lanes collide, for numbers of 4 bytes or fewer.
  double wavefronts_per_request() const { return static_cast<double>(wavefronts) / static_cast<double>(requests); }
};

/// The loads, or the stores, of one source line.
struct LineTraffic {
  std::string file;  ///< without folders
  int line;
  bool shared, store;
  Access access;
};

struct Traffic {
  std::vector<LineTraffic> lines;  ///< by file and line
  Access global_loads, global_stores, shared_loads, shared_stores;

  /// Global loads from, or stores to, the allocation of cudaMalloc that holds this address. "Each byte read once":
  /// `loads_of(p).bytes == loads_of(p).unique_bytes`.
  Access loads_of(const void* allocation) const;
  Access stores_to(const void* allocation) const;
  /// A table, one line of text per source line.
  std::string text() const;

  struct Buffer {
    const char* data;
    Access loads, stores;
  };
  std::vector<Buffer> buffers;
};

/// The traffic of all kernels that `launches` launches. @pre the build is one for counting traffic
Traffic measure_traffic(const std::function<void()>& launches);

#if defined(SIMT_TRAFFIC)
/// An instruction that the runtime performs reads or writes these bytes for the calling lane.
void count_access(const void* address, std::size_t bytes, bool store, const Where& where);
/// One row of a box that TMA reads, or the box in shared memory that it writes.
void count_bulk_read(const void* address, std::size_t bytes, const Where& where);
void count_bulk_write(const void* address, std::size_t bytes, const Where& where);
void end_block_traffic();
#else
inline void count_access(const void*, std::size_t, bool, const Where&) {}
inline void count_bulk_read(const void*, std::size_t, const Where&) {}
inline void count_bulk_write(const void*, std::size_t, const Where&) {}
#endif

}  // namespace simt
