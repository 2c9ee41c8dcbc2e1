/// @file
/// cp.async. Between its start and its end a copy may happen at any moment; so the destination is poisoned at the start
/// and written at the end, and both are writes to the race detector.
/// @see PTX ISA, "Data Movement and Conversion Instructions: cp.async"
#include <algorithm>
#include <cstring>

#include "common/cuda/simt/block.hpp"
#include "common/cuda/simt/sanitizer.hpp"
#include "common/cuda/simt/traffic.hpp"

namespace simt {
namespace {

constexpr std::size_t copy_bytes = 16;

void perform(const AsyncCopy& copy) {
  note_write(copy.shared, copy_bytes);
  note_store(copy.shared, copy_bytes);
  std::memcpy(copy.shared, copy.global, copy_bytes);
}

}  // namespace

void cp_async(void* shared, const void* global, const Where& where) {
  Thread& self = Block::current()->self();
  self.where = where;
  if ((reinterpret_cast<std::uintptr_t>(shared) | reinterpret_cast<std::uintptr_t>(global)) % copy_bytes != 0)
    die("cp.async: addresses are multiples of 16", where);
  note_write(shared, copy_bytes);
  count_access(shared, copy_bytes, true, where);
  note_read(global, copy_bytes);
  count_access(global, copy_bytes, false, where);
  std::memset(shared, 0xff, copy_bytes);
  self.copies.push_back({shared, global, self.copy_group});
}

void cp_async_commit() { ++Block::current()->self().copy_group; }

void cp_async_wait(int groups_left, const Where& where) {
  Thread& self = Block::current()->self();
  self.where = where;
  const auto due = std::find_if(self.copies.begin(), self.copies.end(), [&](const AsyncCopy& copy) {
    return copy.group >= self.copy_group - groups_left;
  });
  std::for_each(self.copies.begin(), due, perform);
  self.copies.erase(self.copies.begin(), due);
}

}  // namespace simt
