#include "chapters/studies/watched_blocks.hpp"

#include <bit>
#include <cstdint>
#include <cstring>
#include <unordered_map>

namespace kv {

std::vector<WatchedBlocks::Block> WatchedBlocks::of(index_t layer) const {
  const std::lock_guard lock(mutex_);
  std::vector<Block> result = blocks_;
  std::erase_if(result, [=](const Block& block) { return block.layer != layer; });
  return result;
}

void WatchedBlocks::taken(void* block, std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  if (owner_ == nobody) return;
  std::memset(block, 0xff, bytes);  // rows that somebody else has left in it are not the layer's
  blocks_.push_back({owner_, count_++, {static_cast<const float*>(block), bytes / sizeof(float)}});
}

void WatchedBlocks::given(void* block) noexcept {
  const std::lock_guard lock(mutex_);
  std::erase_if(blocks_, [=](const Block& each) { return each.numbers.data() == block; });
}

RowPlaces find_rows(const std::vector<WatchedBlocks::Block>& blocks, const std::vector<RowsView>& heads) {
  const auto row_of = [&](index_t g, index_t s) { return heads[g].data + s * heads[g].stride; };
  std::unordered_multimap<std::uint32_t, std::pair<index_t, index_t>> by_first;  // head and row, by the bits of the first number
  for (index_t g = 0; g < heads.size(); ++g)
    for (index_t s = 0; s < heads[g].count; ++s) by_first.insert({std::bit_cast<std::uint32_t>(*row_of(g, s)), {g, s}});
  RowPlaces found;
  for (const auto& [layer, number, numbers] : blocks)
    for (index_t i = 0; i < numbers.size(); ++i) {
      const auto [begin, end] = by_first.equal_range(std::bit_cast<std::uint32_t>(numbers[i]));
      for (auto each = begin; each != end; ++each) {
        const auto [g, s] = each->second;
        const index_t width = heads[g].width;
        if (i + width <= numbers.size() && std::memcmp(&numbers[i], row_of(g, s), width * sizeof(float)) == 0) found[s][g] = {number, i};
      }
    }
  std::erase_if(found, [&](const auto& row) { return row.second.size() < heads.size(); });
  return found;
}

}  // namespace kv
