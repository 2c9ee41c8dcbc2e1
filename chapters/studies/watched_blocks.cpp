#include "chapters/studies/watched_blocks.hpp"

#include <cstdint>
#include <cstring>
#include <unordered_map>

namespace kv {
namespace {

std::uint32_t bits_of(const float* number) {
  std::uint32_t bits;
  std::memcpy(&bits, number, sizeof bits);
  return bits;
}

const float* row_of(const RowsView& rows, index_t s) { return rows.data + s * rows.stride; }

}  // namespace

std::vector<WatchedBlocks::Block> WatchedBlocks::of(index_t layer) const {
  const std::lock_guard lock(mutex_);
  std::map<index_t, Block> blocks;
  for (const auto& [block, taken] : taken_)
    if (taken.layer == layer) blocks[taken.number] = {taken.number, {static_cast<const float*>(block), taken.bytes / sizeof(float)}};
  std::vector<Block> result;
  for (const auto& [number, block] : blocks) result.push_back(block);
  return result;
}

void WatchedBlocks::taken(void* block, std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  if (owner_ != nobody) taken_[block] = {owner_, count_++, bytes};
}

void WatchedBlocks::given(void* block) noexcept {
  const std::lock_guard lock(mutex_);
  taken_.erase(block);
}

std::map<index_t, std::vector<RowPlace>> find_rows(const std::vector<WatchedBlocks::Block>& blocks, const std::vector<RowsView>& heads) {
  struct Row {
    index_t g, s;
  };
  std::unordered_multimap<std::uint32_t, Row> by_first;
  for (index_t g = 0; g < heads.size(); ++g)
    for (index_t s = 0; s < heads[g].count; ++s) by_first.insert({bits_of(row_of(heads[g], s)), {g, s}});
  std::map<index_t, std::map<index_t, RowPlace>> found;  // by row and head
  for (const auto& [number, numbers] : blocks)
    for (index_t i = 0; i < numbers.size(); ++i) {
      const auto [begin, end] = by_first.equal_range(bits_of(&numbers[i]));
      for (auto each = begin; each != end; ++each) {
        const auto [g, s] = each->second;
        const index_t width = heads[g].width;
        if (i + width <= numbers.size() && std::memcmp(&numbers[i], row_of(heads[g], s), width * sizeof(float)) == 0)
          found[s].insert_or_assign(g, RowPlace{number, i});
      }
    }
  std::map<index_t, std::vector<RowPlace>> result;
  for (const auto& [s, places] : found) {
    if (places.size() < heads.size()) continue;
    for (const auto& [g, place] : places) result[s].push_back(place);
  }
  return result;
}

}  // namespace kv
