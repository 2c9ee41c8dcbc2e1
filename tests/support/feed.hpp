#pragma once
/// @file
/// One layer, fed by hand.
#include "common/model/attention.hpp"

namespace kv::test {

/// attention.forward, every segment at the position where its sequence ends.
inline Tensor<2> feed(Attention& attention, const Tensor<2>& x, Batch batch) {
  for (Segment& segment : batch) segment.position = attention.length(segment.sequence);
  return attention.forward(x, batch);
}

}  // namespace kv::test
