/// @file
/// wgmma: 128 threads multiply what lies in shared memory, later. It runs when it is waited for; its reads are noted
/// both at its start and at its end, for they may happen at any moment between. Until then the accumulator is poison, so
/// that a reader computes NaN and a writer is found; and what the threads may have changed needs a fence first.
/// @see PTX ISA, "Asynchronous Warpgroup Level Matrix Multiply-Accumulate Instructions"
#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>

#include "common/cuda/simt/block.hpp"
#include "common/cuda/simt/sanitizer.hpp"

namespace simt {
namespace {

constexpr unsigned tile_rows = 64, tile_depth = 16, max_columns = 256;

/// A matrix in shared memory, as the 64 bits of a descriptor give it.
/// @see PTX ISA, "Matrix-descriptor", "Strides", "Shared Memory Matrix Layout"
struct Descriptor {
  unsigned start, leading_bytes, stride_bytes, swizzle;

  explicit Descriptor(std::uint64_t bits)
      : start(field(bits, 0)), leading_bytes(field(bits, 16)), stride_bytes(field(bits, 32)),
        swizzle(static_cast<unsigned>(bits >> 62)) {}
  static unsigned field(std::uint64_t bits, unsigned at) { return static_cast<unsigned>(bits >> at & 0x3fff) << 4; }

  /// K-major: rows of 128 bytes along K; the next 8 rows are `stride_bytes` further.
  unsigned k_major(unsigned row, unsigned k) const { return start + row / 8 * stride_bytes + row % 8 * 128 + k * 2; }
  /// N-major, or M-major: rows of 64 numbers along N; the next 64 are `leading_bytes` further, the next 8 of K `stride_bytes`.
  unsigned n_major(unsigned n, unsigned k) const {
    return start + n / 64 * leading_bytes + k / 8 * stride_bytes + k % 8 * 128 + n % 64 * 2;
  }
  /// The 128-byte swizzle: bits 4 to 6 of an address are xored with bits 7 to 9.
  static unsigned swizzled(unsigned address) { return address ^ (address >> 7 & 7) << 4; }

  unsigned offset(bool transposed, unsigned row, unsigned k) const {
    return swizzled(transposed ? n_major(row, k) : k_major(row, k));
  }
};

float element(const Descriptor& matrix, bool transposed, unsigned row, unsigned k) {
  std::uint16_t bits;
  std::memcpy(&bits, dynamic_shared() + matrix.offset(transposed, row, k), sizeof bits);
  return std::bit_cast<float>(std::uint32_t{bits} << 16);
}

/// All of an operand, as reads of the calling thread's: thread t of the 128 notes every 128th piece of 16 bytes.
/// @param rows M of A, N of B
void note_operand(std::uint64_t bits, bool transposed, unsigned rows, const Where& where) {
  const Descriptor matrix(bits);
  const unsigned pieces = rows * tile_depth / 8, lane = Block::current()->self().number % warpgroup_size;
  for (unsigned piece = lane; piece < pieces; piece += warpgroup_size) {
    const unsigned offset = transposed ? matrix.offset(true, piece % (rows / 8) * 8, piece / (rows / 8))
                                       : matrix.offset(false, piece / 2, piece % 2 * 8);
    if (offset + 16 > dynamic_shared_bytes()) die("wgmma: an operand leaves dynamic shared memory", where);
    note_read(dynamic_shared() + offset, 16);
    require_fenced(dynamic_shared() + offset, 16, "wgmma: reads what a thread has stored without fence_proxy_async", where);
  }
}

void note_operands(const Wgmma& operation, const Where& where) {
  if (!operation.a_registers) note_operand(operation.a, operation.a_transposed, tile_rows, where);
  note_operand(operation.b, operation.b_transposed, static_cast<unsigned>(operation.columns), where);
}

const Product& held(const Warpgroup& group, unsigned thread) {
  return *static_cast<const Product*>(group.operands[thread]);
}

/// Warp w of the four holds rows 16w ... 16w+15 of A, as mma.m16n8k16 does.
void gather_a(const Warpgroup& group, float (&A)[tile_rows][tile_depth]) {
  for (unsigned thread = 0; thread < warpgroup_size; ++thread) {
    const std::uint32_t* registers = held(group, thread).a;
    for (unsigned i = 0; i < 4; ++i) {
      const unsigned row = thread / 32 * 16 + thread % 32 / 4 + i % 2 * 8, k = thread % 4 * 2 + i / 2 * 8;
      A[row][k] = std::bit_cast<float>(registers[i] << 16);
      A[row][k + 1] = std::bit_cast<float>(registers[i] & 0xffff0000u);
    }
  }
}

void load_a(const Warpgroup& group, float (&A)[tile_rows][tile_depth]) {
  const Wgmma& operation = held(group, 0).operation;
  if (operation.a_registers) return gather_a(group, A);
  for (unsigned row = 0; row < tile_rows; ++row)
    for (unsigned k = 0; k < tile_depth; ++k) A[row][k] = element(Descriptor(operation.a), operation.a_transposed, row, k);
}

/// Register 4j+i of a thread: row 16w + g + 8 (i/2), column 8j + 2p + i%2.
void add_to_d(const Warpgroup& group, const float* D, unsigned columns) {
  for (unsigned thread = 0; thread < warpgroup_size; ++thread) {
    const unsigned row = thread / 32 * 16 + thread % 32 / 4, column = thread % 4 * 2;
    float* d = held(group, thread).sum->values;
    for (unsigned i = 0; i < columns / 2; ++i)
      d[i] += D[(row + i % 4 / 2 * 8) * columns + i / 4 * 8 + column + i % 2];
  }
}

void multiply(const Warpgroup& group) {
  const Wgmma& operation = held(group, 0).operation;
  const auto columns = static_cast<unsigned>(operation.columns);
  float A[tile_rows][tile_depth];
  load_a(group, A);
  static thread_local float B[tile_depth * max_columns], D[tile_rows * max_columns];
  std::fill_n(D, tile_rows * columns, 0.0f);
  for (unsigned k = 0; k < tile_depth; ++k)
    for (unsigned n = 0; n < columns; ++n)
      B[k * columns + n] = element(Descriptor(operation.b), operation.b_transposed, n, k);
  for (unsigned row = 0; row < tile_rows; ++row)
    for (unsigned k = 0; k < tile_depth; ++k)
      for (unsigned n = 0; n < columns; ++n) D[row * columns + n] += A[row][k] * B[k * columns + n];
  add_to_d(group, D, columns);
}

void require_agreement(const Warpgroup& group, const Where& where) {
  const Wgmma& first = held(group, 0).operation;
  for (unsigned thread = 1; thread < warpgroup_size; ++thread) {
    const Wgmma& other = held(group, thread).operation;
    if (other.columns != first.columns || other.a != first.a || other.b != first.b ||
        other.b_transposed != first.b_transposed || other.a_transposed != first.a_transposed || !other.a_registers != !first.a_registers)
      die("wgmma: the threads of the warpgroup disagree about the operands", where);
  }
}

/// The last of the 128 threads performs it for all.
void perform(const Product& product, const Where& where) {
  Block& block = *Block::current();
  Thread& self = block.self();
  Warpgroup& group = block.warpgroup();
  note_operands(product.operation, where);
  group.operands[self.number % warpgroup_size] = &product;
  if (++group.arrived < warpgroup_size) return block.park(State::at_warpgroup);
  require_agreement(group, where);
  multiply(group);
  group.arrived = 0;
  block.wake(State::at_warpgroup, self.number - self.number % warpgroup_size, warpgroup_size);
}

// ---- the accumulator while it is under way -------------------------------------------------------------------------

constexpr std::uint32_t poison = 0xffa0ffeeu;  // a signalling NaN: arithmetic makes it a quiet one, and other bits

void hide(Accumulator& sum) {
  std::copy_n(sum.d, sum.count, sum.values);
  std::fill_n(sum.d, sum.count, std::bit_cast<float>(poison));
}

void require_hidden(const Accumulator& sum, const Where& where) {
  for (unsigned i = 0; i < sum.count; ++i)
    if (std::bit_cast<std::uint32_t>(sum.d[i]) != poison)
      die("wgmma: D was written while a product was under way, before its wgmma_wait", where);
}

/// The thread's accumulator at this address. It is hidden from the first product to the last one's wait.
/// A fence must lie between what the thread does with D and the product. As the last wait has left it, D needs none.
Accumulator& begin_product(Thread& self, const Wgmma& operation, const Where& where) {
  auto sum = std::find_if(self.accumulators.begin(), self.accumulators.end(),
                          [&](const Accumulator& known) { return known.d == operation.d; });
  const auto count = static_cast<unsigned>(operation.columns) / 2;
  const bool known = sum != self.accumulators.end() && sum->count == count;
  const bool untouched =
      known && (sum->in_flight > 0 || std::memcmp(sum->d, sum->values, count * sizeof(float)) == 0);
  if (!self.wgmma_fenced && (!untouched || operation.a_registers))
    die("wgmma: no wgmma_fence since the thread may have touched D or A", where);
  if (sum == self.accumulators.end()) sum = self.accumulators.insert(sum, {operation.d, count, 0, {}});
  if (sum->in_flight++ > 0) {
    require_hidden(*sum, where);
  } else {
    sum->count = count;
    hide(*sum);
  }
  return *sum;
}

}  // namespace

unsigned shared_offset(const void* address, const Where& where) {
  const char* byte = static_cast<const char*>(address);
  if (byte < dynamic_shared() || byte >= dynamic_shared() + dynamic_shared_bytes())
    die("wgmma: operands lie in dynamic shared memory", where);
  return static_cast<unsigned>(byte - dynamic_shared());
}

void wgmma_fence() { Block::current()->self().wgmma_fenced = true; }

void wgmma(const Wgmma& operation, const Where& where) {
  Block& block = *Block::current();
  Thread& self = block.self();
  self.where = where;
  if (self.number / warpgroup_size * warpgroup_size + warpgroup_size > block.size())
    die("wgmma: the warpgroup has fewer than 128 threads", where);
  note_operands(operation, where);
  Product product{operation, self.wgmma_group, &begin_product(self, operation, where), {}};
  if (operation.a_registers) std::copy_n(operation.a_registers, 4, product.a);
  self.wgmmas.push_back(product);
}

void wgmma_commit() { ++Block::current()->self().wgmma_group; }

void wgmma_wait(int groups_left, const Where& where) {
  Thread& self = Block::current()->self();
  self.where = where;
  for (const Accumulator& sum : self.accumulators)
    if (sum.in_flight > 0) require_hidden(sum, where);
  const auto due = std::find_if(self.wgmmas.begin(), self.wgmmas.end(), [&](const Product& product) {
    return product.group >= self.wgmma_group - groups_left;
  });
  if (due != self.wgmmas.begin()) self.wgmma_fenced = false;
  for (auto product = self.wgmmas.begin(); product != due; ++product) {
    if (product->operation.a_registers && !std::equal(product->a, product->a + 4, product->operation.a_registers))
      die("wgmma: A in registers was written while a product was under way, before its wgmma_wait", where);
    perform(*product, where);
    Accumulator& sum = *product->sum;
    if (--sum.in_flight == 0) std::copy_n(sum.values, sum.count, sum.d);
  }
  self.wgmmas.erase(self.wgmmas.begin(), due);
}

void setmaxnreg(int registers, const Where& where) {
  if (registers < 24 || registers > 256 || registers % 8 != 0)
    die("setmaxnreg: the number of registers is a multiple of 8, 24 to 256", where);
}

}  // namespace simt
