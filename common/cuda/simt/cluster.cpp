/// @file
/// What the blocks of a cluster do together: a barrier, and addresses in each other's dynamic shared memory.
/// @see PTX ISA, "Cluster of Cooperative Thread Arrays", "barrier.cluster", "mapa"
#include <algorithm>

#include "common/cuda/simt/block.hpp"
#include "common/cuda/simt/sanitizer.hpp"

namespace simt {

unsigned cluster_rank() {
  const Block& block = *Block::current();
  const std::vector<Block*>& blocks = block.cluster->blocks;
  return unsigned(std::find(blocks.begin(), blocks.end(), &block) - blocks.begin());
}

void release_cluster_barrier(Cluster& cluster) {
  open(cluster.whole);
  for (Block* block : cluster.blocks) block->wake(State::at_cluster, 0, block->size());
}

void sync_cluster(const Where& where) {
  Block& block = *Block::current();
  block.self().where = where;
  Cluster& cluster = *block.cluster;
  const char* order = join(cluster.whole);
  block.self().state = State::at_cluster;
  if (cluster.whole.arrived == cluster.live())
    release_cluster_barrier(cluster);
  else
    block.park(State::at_cluster);
  acquire(order);
}

Block& block_of_rank(unsigned rank, const Where& where) {
  const std::vector<Block*>& blocks = Block::current()->cluster->blocks;
  if (rank >= blocks.size()) die("cluster: there is no block of that rank", where);
  if (blocks[rank]->live() == 0) die("cluster: the block of that rank has ended, and its shared memory with it", where);
  return *blocks[rank];
}

void* in_block(const void* address, unsigned rank, const Where& where) {
  const Block& self = *Block::current();
  const char* byte = static_cast<const char*>(address);
  if (byte < self.shared || byte >= self.shared + self.shared_bytes)
    die("cluster: only what lies in dynamic shared memory can be found in another block", where);
  return block_of_rank(rank, where).shared + (byte - self.shared);
}

}  // namespace simt
