#pragma once
/// @file
/// Where the rows of a cache lie, found in memory by their bits: what a layer keeps is private, but its storage comes from one place.
#include <map>
#include <mutex>
#include <vector>

#include "common/tensor/block_observer.hpp"
#include "common/tensor/tensor.hpp"

namespace kv {

/// Blocks that each layer has taken and that nobody has given back yet. One object at a time.
class WatchedBlocks : public BlockObserver {
 public:
  struct Block {
    index_t number;  ///< no two blocks have the same, also where one gets the memory of another
    std::span<const float> numbers;
  };

  WatchedBlocks() { observe_blocks(this); }
  ~WatchedBlocks() { observe_blocks(nullptr); }
  WatchedBlocks(const WatchedBlocks&) = delete;

  /// What `work` takes is the layer's.
  template <class Work>
  auto taken_by(index_t layer, Work work) {
    const Owner owner(owner_, layer);
    return work();
  }
  /// In the order in which they were taken.
  std::vector<Block> of(index_t layer) const;

  void taken(void* block, std::size_t bytes) override;
  void given(void* block) noexcept override;

 private:
  static constexpr index_t nobody = ~index_t{0};
  struct Owner {
    Owner(index_t& place, index_t layer) : place(place) { place = layer; }
    ~Owner() { place = nobody; }
    index_t& place;
  };
  struct Taken {
    index_t layer, number;
    std::size_t bytes;
  };

  mutable std::mutex mutex_;
  index_t owner_ = nobody, count_ = 0;
  std::map<void*, Taken> taken_;
};

/// A row's block, and the number in it that the row begins with.
struct RowPlace {
  index_t block, first;
  bool operator==(const RowPlace&) const = default;
};

/// For each row that lies in the blocks with all its heads: where each head of it lies.
/// @param heads the rows (S,D) of each head; a row of a head lies together
std::map<index_t, std::vector<RowPlace>> find_rows(const std::vector<WatchedBlocks::Block>& blocks, const std::vector<RowsView>& heads);

}  // namespace kv
