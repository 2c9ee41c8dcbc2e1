#include "common/model/attention.hpp"

#include <string>

#include "common/files/error.hpp"

namespace kv {

List<index_t> positions(const Batch& batch, const Attention& attention) {
  List<index_t> result;
  for (const Segment& segment : batch) {
    if (const index_t next = attention.length(segment.sequence); segment.position != next)
      throw std::invalid_argument("sequence " + std::to_string(segment.sequence) + " is fed position " +
                                  std::to_string(segment.position) + "; its next one is " + std::to_string(next));
    for (index_t i = 0; i < segment.rows; ++i) result.push_back(segment.position + i);
  }
  return result;
}

void require_held(index_t length, index_t held) {
  if (length > held)
    throw std::out_of_range("cannot truncate " + std::to_string(held) + " tokens to " + std::to_string(length));
}

void require_room(index_t length, index_t capacity, index_t count) {
  if (count <= capacity - length) return;
  throw Error("the sequence holds " + std::to_string(length) + " of at most " + std::to_string(capacity) + " tokens; " +
              std::to_string(count) + " more do not fit: shorten the prompt or raise the capacity");
}

}  // namespace kv
