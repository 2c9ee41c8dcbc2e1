#include "common/tensor/integer_product.hpp"

#include "common/tensor/memory.hpp"
#include "common/tensor/simd/instruction_set.hpp"

namespace kv {
namespace {

using simd::panel_width;

constexpr index_t chunk_bytes = 1 << 19;  // laid out rows that all panels use, one after the other: for the second cache

index_t blocks(index_t count, index_t size) { return (count + size - 1) / size; }

/// Some rows in tiles of nearly equal height, and where their outputs go.
struct Chunk {
  const PackedLayer& layer;
  const simd::IntegerKernels& kernels;
  index_t parts, rows, tiles;
  std::byte* taken;
  float* scales;  // of rows
  float* y;
  index_t y_stride;

  index_t quads() const { return blocks(layer.inputs, simd::quad); }
  index_t begin(index_t tile) const { return rows * tile / tiles; }
  index_t height(index_t tile) const { return begin(tile + 1) - begin(tile); }
  std::byte* tile(index_t t) const { return taken + begin(t) * parts * column_bytes(); }
  index_t column_bytes() const { return (quads() + 1) * kernels.tile.quad_bytes; }
  const std::byte* panel(index_t p) const { return layer.panels + p * panel_width * simd::quad * quads(); }
};

/// The columns of a tile are the first parts of its rows, then the second ones.
void take_rows(const Chunk& chunk, const float* x, index_t x_stride) {
  const auto take = [&](index_t first, index_t last) {
    thread_local Scratch scratch;
    const index_t width = chunk.quads() * simd::quad;
    for (index_t t = first; t < last; ++t) {
      const index_t height = chunk.height(t), columns = chunk.parts * height;
      auto* const numbers = reinterpret_cast<std::int8_t*>(scratch.floats(columns * chunk.quads()));
      for (index_t r = 0; r < height; ++r) {
        const index_t n = chunk.begin(t) + r;
        chunk.scales[n] = chunk.kernels.round_row(x + n * x_stride, chunk.layer.inputs, chunk.parts, numbers + r * width, height * width);
      }
      chunk.kernels.tile.take_columns(numbers, width, columns, chunk.quads(), chunk.tile(t));
    }
  };
  parallel_for(chunk.tiles, 1 + 20000 / (chunk.layer.inputs + 1), take);
}

/// One panel for tiles t0 ... t1-1, which fetch the panel behind it.
void multiply_panel(const Chunk& chunk, index_t p, index_t t0, index_t t1) {
  const index_t o = p * panel_width, width = std::min<index_t>(panel_width, chunk.layer.outputs - o);
  const index_t lines = blocks(2, t1 - t0), fetched = lines * 64 * chunk.quads();
  const std::byte* next = chunk.panel(p + 1);
  for (index_t t = t0; t < t1; ++t, next += fetched) {
    const index_t height = chunk.height(t);
    std::int32_t sums[simd::max_columns * panel_width];
    chunk.kernels.tile.multiply(chunk.tile(t), chunk.parts * height, chunk.panel(p), chunk.quads(), sums, next, t - t0 < 2 ? lines : 0);
    for (index_t r = 0; r < height; ++r) {
      float joined[panel_width];
      const index_t n = chunk.begin(t) + r;
      chunk.kernels.join_parts(sums + r * panel_width, chunk.parts, height * panel_width, chunk.scales[n], joined);
      std::copy_n(joined, width, chunk.y + n * chunk.y_stride + o);
    }
  }
  const index_t n = chunk.begin(t0);
  chunk.layer.finish(o, o + width, chunk.begin(t1) - n, chunk.y + n * chunk.y_stride, chunk.y_stride);
}

}  // namespace

void multiply_in_integers(const PackedLayer& layer, InputFormat inputs, index_t row_count, const float* x, index_t x_stride, float* y,
                          index_t y_stride) {
  const simd::IntegerKernels& kernels = simd::kernels().integers;
  const index_t parts = inputs == InputFormat::int8x2 ? 2 : 1, tile_rows = kernels.tile.columns / parts;
  const index_t row_bytes = parts * (blocks(layer.inputs, simd::quad) + 1) * kernels.tile.quad_bytes;
  const index_t chunks = blocks(row_count, std::max(tile_rows, chunk_bytes / row_bytes));
  thread_local Scratch scratch;
  for (index_t c = 0; c < chunks; ++c) {
    const index_t first = row_count * c / chunks, rows = row_count * (c + 1) / chunks - first;
    float* const scales = scratch.floats(rows * (row_bytes / sizeof(float) + 1));
    const Chunk chunk{layer, kernels, parts, rows, blocks(rows, tile_rows), reinterpret_cast<std::byte*>(scales + rows), scales, y + first * y_stride, y_stride};
    take_rows(chunk, x + first * x_stride, x_stride);
    // 16 bytes of weights and 100 products per ns.
    const index_t panel_ns = layer.inputs * panel_width / 16 + layer.inputs * panel_width * rows * parts / 100;
    for_panels(layer.outputs, chunk.tiles, panel_ns, [&](index_t p, index_t t0, index_t t1) { multiply_panel(chunk, p, t0, t1); });
  }
}

}  // namespace kv
