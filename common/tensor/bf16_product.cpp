#include "common/tensor/bf16_product.hpp"

#include <algorithm>

#include "common/tensor/memory.hpp"
#include "common/tensor/simd/instruction_set.hpp"

namespace kv {
namespace {

using simd::panel_width;
using simd::tile_block;

constexpr index_t row_chunk = 192;       // rows that use a panel's weights together
constexpr index_t max_taken = 512;       // at least as many inputs as any kernel takes of a panel at once
constexpr index_t span_bytes = 1 << 20;  // laid out rows that all panels use, one after the other: for the second cache

index_t blocks(index_t count, index_t size) { return (count + size - 1) / size; }

constexpr index_t input_bytes = panel_width * sizeof(std::uint16_t);

index_t stored_inputs(const PackedLayer& layer) { return blocks(layer.inputs, tile_block) * tile_block; }

const std::byte* panel_of(const PackedLayer& layer, index_t panel) {
  return layer.panels + panel * stored_inputs(layer) * input_bytes;
}

/// What a format of inputs asks for.
struct Order {
  const simd::Bf16Kernels& kernels;
  index_t parts;
};

Order order_of(InputFormat inputs) {
  const simd::Kernels& kernels = simd::kernels();
  return {inputs == InputFormat::bf16 ? kernels.in_pairs : kernels.in_tiles, inputs == InputFormat::bf16x3 ? 3u : 1u};
}

/// Some rows in tiles of nearly equal height, and where their outputs go.
struct Chunk {
  const PackedLayer& layer;
  const simd::TileKernels& kernels;
  index_t rows;
  simd::TileShape shape;
  std::byte* laid_out;
  float* y;
  index_t y_stride;

  std::byte* pair(index_t p) const { return laid_out + p * shape.pair_numbers() * kernels.number_bytes; }
  /// Inputs whose rows stay in the second cache while all panels pass.
  index_t span_inputs() const {
    const index_t bytes_per_input = shape.pairs * shape.block_numbers() / tile_block * kernels.number_bytes;
    return std::max<index_t>(1, span_bytes / (bytes_per_input * kernels.inputs)) * kernels.inputs;
  }
  const std::byte* weights(index_t panel, index_t input) const { return panel_of(layer, panel) + input * input_bytes; }
};

simd::TileShape shape_of(index_t rows, index_t parts, index_t inputs) {
  const index_t pairs = blocks(rows, 2 * simd::tile_height);
  return {pairs, blocks(rows, 2 * pairs), parts, blocks(inputs, tile_block)};
}

void lay_out(const Chunk& chunk, const float* x, index_t x_stride) {
  const auto take = [&](index_t first, index_t last) {
    for (index_t p = first; p < last; ++p) {
      const index_t row = std::min(chunk.rows, p * chunk.shape.pair_rows()), count = std::min(chunk.shape.pair_rows(), chunk.rows - row);
      chunk.kernels.take_rows({x + row * x_stride, x_stride, count}, chunk.layer.inputs, chunk.shape, chunk.pair(p));
    }
  };
  parallel_for(chunk.shape.pairs, 1 + 20000 / (chunk.layer.inputs * chunk.shape.pair_rows()), take);
}

/// Inputs first ... last-1 of one panel for pairs p0 ... p1-1. Sums wait in y between two spans of inputs.
void multiply_panel(const Chunk& chunk, index_t panel, index_t first, index_t last, index_t p0, index_t p1) {
  const simd::TileKernels& kernels = chunk.kernels;
  const index_t row0 = p0 * chunk.shape.pair_rows(), rows = std::min(chunk.rows, p1 * chunk.shape.pair_rows()) - row0;
  const index_t o = panel * panel_width, width = std::min<index_t>(panel_width, chunk.layer.outputs - o);
  float* const y = chunk.y + row0 * chunk.y_stride;

  thread_local Scratch scratch;
  constexpr index_t most_rows = row_chunk + 2 * simd::tile_height;
  float* const sums = scratch.floats((most_rows + max_taken) * panel_width);
  float* const taken = sums + most_rows * panel_width;
  if (first != 0)
    for (index_t n = 0; n < rows; ++n) std::copy_n(y + n * chunk.y_stride + o, width, sums + n * panel_width);
  for (index_t k = first; k < last; k += kernels.inputs) {
    const index_t count = std::min<index_t>(kernels.inputs, last - k), at = k / tile_block * chunk.shape.block_numbers() * kernels.number_bytes;
    const void* weights = chunk.weights(panel, k);
    if (kernels.take_weights) kernels.take_weights(weights, blocks(count, tile_block), taken), weights = taken;
    kernels.multiply(chunk.pair(p0) + at, p1 - p0, chunk.shape, weights, blocks(count, tile_block), sums, k != 0,
                     chunk.weights(panel, k + count));
  }
  for (index_t n = 0; n < rows; ++n) std::copy_n(sums + n * panel_width, width, y + n * chunk.y_stride + o);
  if (last == chunk.layer.inputs) chunk.layer.finish(o, o + width, rows, y, chunk.y_stride);
}

void multiply_span(const Chunk& chunk, index_t first, index_t last) {
  // 8 bytes of weights and 100 multiplications per ns.
  const index_t panel_ns = (last - first) * panel_width * (1 + chunk.rows * chunk.shape.parts / 25) / 4;
  for_panels(chunk.layer.outputs, chunk.shape.pairs, panel_ns,
             [&](index_t panel, index_t p0, index_t p1) { multiply_panel(chunk, panel, first, last, p0, p1); });
}

/// Few rows, one after the other: for each the weights pass by as fast as memory gives them.
void multiply_rows(const PackedLayer& layer, const Order& order, index_t row_count, const float* x, index_t x_stride, float* y,
                   index_t y_stride) {
  const auto& [kernels, parts] = order;
  const index_t row_size = stored_inputs(layer) * parts, complete = layer.outputs / panel_width;
  thread_local Scratch scratch;
  float* const taken = scratch.floats(row_count * row_size);
  for (index_t n = 0; n < row_count; ++n) kernels.take_row(x + n * x_stride, layer.inputs, parts, taken + n * row_size);

  const auto multiply_panels = [&](index_t p, index_t count, index_t n, float* sums) {
    order.kernels.multiply_row({panel_of(layer, p), count, layer.inputs, stored_inputs(layer), nullptr, 0}, taken + n * row_size, order.parts, sums);
  };
  const auto multiply = [&](index_t first, index_t last) {
    const index_t last_complete = std::min(last, complete), step = row_count == 1 ? std::max<index_t>(1, last_complete - first) : 4;
    for (index_t p = first; p < last_complete; p += step)
      for (index_t n = 0; n < row_count; ++n)
        multiply_panels(p, std::min(step, last_complete - p), n, y + n * y_stride + p * panel_width);
    for (index_t n = 0; last > last_complete && n < row_count; ++n) {
      float padded[panel_width];
      multiply_panels(complete, 1, n, padded);
      std::copy_n(padded, layer.outputs % panel_width, y + n * y_stride + complete * panel_width);
    }
    layer.finish(first * panel_width, std::min(layer.outputs, last * panel_width), row_count, y, y_stride);
  };
  // Worth another thread from about 10 us on, at 16 bytes of weights for a row and ns; 4 panels stream together.
  const index_t panel_ns = layer.inputs * panel_width * row_count / 8 + 1;
  parallel_for(blocks(layer.outputs, panel_width), 4 * (2500 / panel_ns + 1), multiply);
}

/// Up to here rows pass one by one: a matrix instruction waits as long for one row as for eight.
constexpr index_t few_rows = 2;

}  // namespace

void multiply_in_bf16(const PackedLayer& layer, InputFormat inputs, index_t row_count, const float* x, index_t x_stride, float* y,
                      index_t y_stride) {
  const Order order = order_of(inputs);
  if (row_count <= few_rows) return multiply_rows(layer, order, row_count, x, x_stride, y, y_stride);
  const simd::TileKernels& kernels = order.kernels.many;
  thread_local Scratch scratch;
  const index_t chunks = blocks(row_count, row_chunk);
  for (index_t c = 0; c < chunks; ++c) {
    const index_t first = row_count * c / chunks, rows = row_count * (c + 1) / chunks - first;
    const simd::TileShape shape = shape_of(rows, order.parts, layer.inputs);
    const index_t bytes = shape.pairs * shape.pair_numbers() * kernels.number_bytes;
    auto* const laid_out = reinterpret_cast<std::byte*>(scratch.floats(bytes / sizeof(float) + 1));
    const Chunk chunk{layer, kernels, rows, shape, laid_out, y + first * y_stride, y_stride};
    lay_out(chunk, x + first * x_stride, x_stride);
    for (index_t k = 0; k == 0 || k < layer.inputs; k += chunk.span_inputs())
      multiply_span(chunk, k, std::min(layer.inputs, k + chunk.span_inputs()));
  }
}

}  // namespace kv
