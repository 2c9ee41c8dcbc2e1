#pragma once
/// @file
/// A batch through rings: rows are written and read in pieces, because a row may overwrite one that an earlier token sees.
#include <functional>

#include "chapters/07_long_context/ring_cache.hpp"
#include "common/model/attention.hpp"

namespace kv {

/// Writes rows first ... first+count-1 of the batch into a sequence's ring.
using AppendRows = std::function<void(RingCache& cache, index_t first, index_t count)>;

/// Appends and attends every segment, ring_piece tokens at a time. A token sees what its place in the sequence says,
/// whichever piece it comes in.
/// @param queries (N,H,D)  @param sink_queries (N,H,D)  @param caches one for each sequence  @return (N,H,W)
Tensor<3> attend_ring(const Tensor<3>& queries, const Tensor<3>& sink_queries, const Batch& batch,
                      std::vector<RingCache>& caches, float scale, const AppendRows& append);

}  // namespace kv
