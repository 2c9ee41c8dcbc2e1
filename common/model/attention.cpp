#include "common/model/attention.hpp"

namespace kv {

std::vector<index_t> positions(const Batch& batch, const Attention& attention) {
  std::vector<index_t> result;
  for (const Segment& segment : batch)
    for (index_t i = 0; i < segment.rows; ++i) result.push_back(attention.length(segment.sequence) + i);
  return result;
}

}  // namespace kv
