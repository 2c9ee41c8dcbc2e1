#pragma once
/// @file
/// For tests of the tensor core: run under one instruction set and number of threads, go back to the best afterwards.
#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

#include "common/tensor/parallel.hpp"
#include "common/tensor/simd/instruction_set.hpp"
#include "tests/support/random.hpp"

namespace kv::test {

/// Selects for as long as it lives.
class Machine {
 public:
  Machine(InstructionSet set, index_t thread_count) : set_(instruction_set()), threads_(threads()) {
    use_instruction_set(set);
    set_threads(thread_count);
  }
  ~Machine() {
    use_instruction_set(set_);
    set_threads(threads_);
  }
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

 private:
  InstructionSet set_;
  index_t threads_;
};

/// The same bits, or both NaN.
inline bool same(float a, float b) {
  return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b) || (std::isnan(a) && std::isnan(b));
}
/// Index of the first element that differs, or the size.
inline index_t first_difference(const std::vector<float>& a, const std::vector<float>& b) {
  index_t i = 0;
  while (i < a.size() && i < b.size() && same(a[i], b[i])) ++i;
  return a.size() == b.size() ? i : a.size() + 1;
}

}  // namespace kv::test
