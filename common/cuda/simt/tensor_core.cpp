/// @file
/// ldmatrix and mma.sync: which lane holds which element, and the product itself.
/// @see PTX ISA, "Warp-level matrix load instruction: ldmatrix", "Matrix Fragments for mma.m16n8k16"
#include <bit>
#include <cstdint>
#include <cstring>

#include "common/cuda/simt/block.hpp"
#include "common/cuda/simt/sanitizer.hpp"
#include "common/cuda/simt/traffic.hpp"

namespace simt {
namespace {

float low_bf16(std::uint32_t pair) { return std::bit_cast<float>(pair << 16); }
float high_bf16(std::uint32_t pair) { return std::bit_cast<float>(pair & 0xffff0000u); }

struct Mma {
  float* d;
  const std::uint32_t *a, *b;
};

// Lane 4g+p: of A the rows g and g+8, columns 2p, 2p+1 and 8 further; of B the rows 2p, 2p+1 and 8 further, column g;
// of D the rows g and g+8, columns 2p, 2p+1.
void multiply(void* const* lanes, unsigned) {
  float A[16][16], B[16][8], D[16][8] = {};
  for (unsigned lane = 0; lane < warp_size; ++lane) {
    const Mma& held = *static_cast<const Mma*>(lanes[lane]);
    const unsigned g = lane / 4, p = lane % 4;
    for (unsigned i = 0; i < 4; ++i) {
      const unsigned row = g + i % 2 * 8, column = 2 * p + i / 2 * 8;
      A[row][column] = low_bf16(held.a[i]);
      A[row][column + 1] = high_bf16(held.a[i]);
    }
    for (unsigned i = 0; i < 2; ++i) {
      B[2 * p + i * 8][g] = low_bf16(held.b[i]);
      B[2 * p + 1 + i * 8][g] = high_bf16(held.b[i]);
    }
  }
  for (unsigned i = 0; i < 16; ++i)
    for (unsigned k = 0; k < 16; ++k)
      for (unsigned j = 0; j < 8; ++j) D[i][j] += A[i][k] * B[k][j];
  for (unsigned lane = 0; lane < warp_size; ++lane) {
    float* d = static_cast<const Mma*>(lanes[lane])->d;
    for (unsigned i = 0; i < 4; ++i) d[i] += D[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
  }
}

struct Rows {
  std::uint16_t row[8];  ///< lane 8t+r holds row r of tile t
  std::uint32_t* registers;
};

/// Register t of lane 4g+p: elements (g, 2p) and (g, 2p+1) of tile t; transposed: (2p, g) and (2p+1, g).
template <bool transposed>
void distribute(void* const* lanes, unsigned) {
  const auto element = [&](unsigned tile, unsigned row, unsigned column) {
    if (transposed) std::swap(row, column);
    return std::uint32_t{static_cast<const Rows*>(lanes[tile * 8 + row])->row[column]};
  };
  for (unsigned lane = 0; lane < warp_size; ++lane)
    for (unsigned tile = 0; tile < 4; ++tile)
      static_cast<Rows*>(lanes[lane])->registers[tile] =
          element(tile, lane / 4, lane % 4 * 2) | element(tile, lane / 4, lane % 4 * 2 + 1) << 16;
}

}  // namespace

void mma_m16n8k16(float* d, const std::uint32_t* a, const std::uint32_t* b, const Where& where) {
  Mma operands{d, a, b};
  collective(multiply, all_lanes, &operands, where);
}

void ldmatrix_x4(std::uint32_t* registers, const void* row, bool transposed, const Where& where) {
  if (reinterpret_cast<std::uintptr_t>(row) % 16 != 0) die("ldmatrix: a row's address is a multiple of 16", where);
  note_read(row, sizeof Rows{}.row);
  count_access(row, sizeof Rows{}.row, false, where);
  Rows operands{{}, registers};
  std::memcpy(operands.row, row, sizeof operands.row);
  collective(transposed ? distribute<true> : distribute<false>, all_lanes, &operands, where);
}

}  // namespace simt
