#pragma once
/// @file
/// Where the rows of a cache lie, found in memory by their bits: what a layer keeps is private, but its storage comes from one place.
#include <map>
#include <mutex>
#include <vector>

#include "common/tensor/block_observer.hpp"
#include "common/tensor/tensor.hpp"

namespace kv {

/// Blocks that layers have taken and that nobody has given back yet. One object at a time.
class WatchedBlocks : public BlockObserver {
 public:
  struct Block {
    index_t layer;
    index_t number;  ///< no two blocks have the same, also where one gets the memory of another
    std::span<const float> numbers;
  };

  WatchedBlocks() { observe_blocks(this); }
  ~WatchedBlocks() { observe_blocks(nullptr); }
  WatchedBlocks(const WatchedBlocks&) = delete;

  /// What `work` takes is the layer's.
  template <class Work>
  auto taken_by(index_t layer, Work work) {
    owner_ = layer;
    const struct End {
      index_t& owner;
      ~End() { owner = nobody; }
    } end{owner_};
    return work();
  }
  /// In the order in which they were taken.
  std::vector<Block> of(index_t layer) const;

  void taken(void* block, std::size_t bytes) override;
  void given(void* block) noexcept override;

 private:
  static constexpr index_t nobody = ~index_t{0};
  mutable std::mutex mutex_;
  index_t owner_ = nobody, count_ = 0;
  std::vector<Block> blocks_;
};

/// A block's number, and the place in it.
using RowPlace = std::pair<index_t, index_t>;
/// By row, and by head.
using RowPlaces = std::map<index_t, std::map<index_t, RowPlace>>;

/// The rows that lie in the blocks with all their heads. Of two equal ones, the later.
/// @param heads rows (S,D) of each head
RowPlaces find_rows(const std::vector<WatchedBlocks::Block>& blocks, const std::vector<RowsView>& heads);

}  // namespace kv
