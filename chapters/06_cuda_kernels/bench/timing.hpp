#pragma once
/// @file
/// How long a list of launches takes.
#include <functional>

#include "common/cuda/stream.hpp"
#include "common/model/metrics.hpp"

namespace kv::cuda {

/// The median over `rounds` of the time of one launch, in microseconds. launch(i) queues the work on the i-th of `copies`
/// sets of buffers; all copies are recorded in one graph and replayed, so that the host is not in the way.
inline double median_microseconds(Stream& stream, int rounds, int copies, const std::function<void(int copy)>& launch) {
  Graph graph(stream, [&] {
    for (int copy = 0; copy < copies; ++copy) launch(copy);
  });
  graph.replay(stream);  // warm: clocks, instruction caches, lazily loaded modules
  Event before, after;
  std::vector<double> times;
  for (int round = 0; round < rounds; ++round) {
    before.record(stream.get());
    graph.replay(stream);
    after.record(stream.get());
    times.push_back(after.milliseconds_since(before) * 1e3 / copies);
  }
  return median(times);
}

/// Sets of buffers of so many bytes that together are larger than the L2 cache, twice.
inline int copies_beyond(std::size_t l2_bytes, std::size_t bytes) {
  return static_cast<int>(2 * l2_bytes / (bytes > 0 ? bytes : 1)) + 1;
}

}  // namespace kv::cuda
