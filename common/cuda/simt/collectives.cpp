/// @file
/// Operations that all lanes of a mask take part in: the last lane to come performs them for all.
#include <cstdint>
#include <cstdio>

#include "common/cuda/simt/block.hpp"

namespace simt {
namespace {

void require_legal_mask(const Warp& warp, unsigned lane, unsigned mask, const Where& where) {
  if (!(mask >> lane & 1)) die("warp operation: the calling lane is not in its own mask", where);
  if ((mask & warp.live) != mask) die("warp operation: the mask names a lane that has exited", where);
}

/// The lanes of a mask meet: they must want the same thing.
void require_agreement(Block& block, const Warp& warp, unsigned first, WarpOperation operation, unsigned mask,
                       const Where& where) {
  for (unsigned lane = 0; lane < warp_size; ++lane) {
    if (!(mask >> lane & 1)) continue;
    if (block.thread(first + lane).mask != mask) die("warp operation: lanes disagree about the mask", where);
    if (warp.operation[lane] != operation) die("warp operation: lanes of one mask are in different operations", where);
  }
}

}  // namespace

void collective(WarpOperation operation, unsigned mask, void* operands, const Where& where) {
  Block& block = *Block::current();
  Thread& self = block.self();
  Warp& warp = block.warp();
  const unsigned lane = self.number % warp_size, first = self.number - lane;
  self.where = where;
  require_legal_mask(warp, lane, mask, where);
  self.mask = mask;
  warp.operation[lane] = operation;
  warp.operands[lane] = operands;
  warp.arrived |= 1u << lane;
  if ((warp.arrived & mask) != mask) return block.park(State::at_warp);
  require_agreement(block, warp, first, operation, mask, where);
  operation(warp.operands, mask);
  warp.arrived &= ~mask;
  block.wake(State::at_warp, first, warp_size, [mask](const Thread& thread) { return thread.mask == mask; });
}

}  // namespace simt
