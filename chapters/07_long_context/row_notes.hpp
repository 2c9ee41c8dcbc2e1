#pragma once
/// @file
/// What a policy notes about rows.
#include "chapters/07_long_context/kept_rows.hpp"

namespace kv {

/// One note for each row of each head, in the order of the rows.
template <class Note>
class RowNotes {
 public:
  /// @param room rows of each head that memory is taken for from the beginning
  RowNotes(index_t heads, index_t room) : heads_(heads) {
    for (std::vector<Note>& notes : heads_) notes.reserve(room);
  }

  std::vector<Note>& operator[](index_t g) { return heads_[g]; }
  const std::vector<Note>& operator[](index_t g) const { return heads_[g]; }
  index_t heads() const { return heads_.size(); }
  void drop(index_t g, std::span<const index_t> indices) {
    if (indices.empty()) return;
    take_out(heads_[g], indices);
    if (heads_[g].size() < heads_[g].capacity() / 2) heads_[g].shrink_to_fit();
  }
  StateBytes bytes() const {
    StateBytes sum;
    for (const std::vector<Note>& notes : heads_)
      sum += {.allocated = notes.capacity() * sizeof(Note), .used = notes.size() * sizeof(Note)};
    return sum;
  }

 private:
  std::vector<std::vector<Note>> heads_;
};

}  // namespace kv
