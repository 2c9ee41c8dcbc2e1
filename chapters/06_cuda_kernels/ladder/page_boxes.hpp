#pragma once
/// @file
/// A page in shared memory as TMA lays it down: nine boxes of 64 rows x 64 columns, each with the 128-byte swizzle.
/// Within a box a row has 128 bytes in eight pieces of 16, and row r keeps piece i in place i XOR (r mod 8). So both a row
/// and the same piece of eight rows lie in 32 different banks, without padding, which TMA could not write.
#include "chapters/06_cuda_kernels/ladder/mla_decode.hpp"
#include "common/cuda/hopper.hpp"

namespace kv::cuda {

inline constexpr int box_width = 64;                            ///< columns
inline constexpr int boxes = latent_width / box_width;          ///< of a row: eight of values, and one more of keys
inline constexpr int value_boxes = value_width / box_width;
inline constexpr int box_size = page_tokens * box_width;        ///< numbers
static_assert(box_width == tensor_box_columns && box_size * sizeof(bf16) == box_bytes);

/// Where a box keeps (row, column).
__device__ inline int place_in_box(int row, int column) {
  return row * box_width + ((column / 8) ^ (row % 8)) * 8 + column % 8;
}

/// The boxes of one page. Each must start at a multiple of 1024 bytes.
struct PageBoxes {
  bf16* data;  // (9,64,64)

  __device__ bf16* box(int i) const { return data + i * box_size; }
  __device__ bf16* at(int row, int column) const {
    return box(column / box_width) + place_in_box(row, column % box_width);
  }
  /// Zeros in the values of rows first ... end-1 from the first `lanes` threads counted by `lane`. Weight 0 times what
  /// lies beyond the sequence's end may be NaN.
  __device__ void clear_values(int first, int end, int lane, int lanes) const {
    constexpr int pieces = value_width / 8;
    const uint4 zeros{0, 0, 0, 0};
    for (int k = first * pieces + lane; k < end * pieces; k += lanes)
      *reinterpret_cast<uint4*>(at(k / pieces, k % pieces * 8)) = zeros;
  }
};

/// The cache as TMA sees it: rows of 576, a box of 64 of them.
inline TensorMap latents_map(const MlaDecode& problem) {
  const std::int64_t rows = std::int64_t(problem.pages) * page_tokens;
  return make_tensor_map(problem.latents, rows, latent_width, latent_width, page_tokens);
}

/// Two pages in flight. A page's boxes come one by one and have a barrier each, so the product starts with the first;
/// a page is given back as a whole.
struct PageStages {
  static constexpr int stages = 2;
  alignas(1024) bf16 pages[stages][boxes * box_size];
  mbarrier full[stages][boxes];
  mbarrier empty[stages];

  /// @param consumers threads that call release() for each page
  __device__ void init(int consumers) {
    for (int s = 0; s < stages; ++s) {
      for (int i = 0; i < boxes; ++i) mbarrier_init(&full[s][i], 1);
      mbarrier_init(&empty[s], consumers);
    }
  }

  // [produce]
  /// One thread fetches the n-th page that passes through here into the place of the (n-2)-th, once
  /// all have released it.
  /// @param latents map of the cache as rows of 576
  __device__ void fetch(int n, const TensorMap* latents, int page) {
    const int s = n % stages;
    if (n >= stages) mbarrier_wait(&empty[s], (n / stages - 1) % 2);
    for (int i = 0; i < boxes; ++i) {
      mbarrier_expect_bytes(&full[s][i], box_bytes);
      tma_load(pages[s] + i * box_size, latents, &full[s][i], i * box_width, page * page_tokens);
    }
  }
  // [produce]
  // [consume]
  /// Waits for box i of the n-th page.
  __device__ void wait(int n, int i) { mbarrier_wait(&full[n % stages][i], n / stages % 2); }
  __device__ PageBoxes page(int n) { return {pages[n % stages]}; }
  __device__ void release(int n) { mbarrier_arrive(&empty[n % stages]); }
  // [consume]
};

}  // namespace kv::cuda
