#pragma once
/// @file
/// Who asks what a part of the program keeps, watches the blocks that tensors are made of.
#include <cstddef>

namespace kv {

/// Hears of every block of take_block(), from whichever thread takes it or gives it back.
struct BlockObserver {
  virtual void taken(void* block, std::size_t bytes) = 0;
  virtual void given(void* block) noexcept = 0;

 protected:
  ~BlockObserver() = default;
};

/// Of this process from now on; null: nobody. Set while no other thread works.
void observe_blocks(BlockObserver* observer);

}  // namespace kv
