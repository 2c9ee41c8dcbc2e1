#include "common/tensor/pack_panel.hpp"

#include <cstring>
#include <utility>

#include "common/tensor/simd/kernels.hpp"

namespace kv {
namespace {

using simd::panel_width;

constexpr index_t stretch = 256;  // bytes of one output that are read together

/// 16 bytes of one output's weights.
template <class Element>
struct Lanes {
  static constexpr index_t count = 16 / sizeof(Element);
  using Vector [[gnu::vector_size(16)]] = Element;

  /// The lanes of a and b in turn: of their first halves, or of their second ones.
  template <std::size_t first, std::size_t... i>
  [[gnu::always_inline]] static Vector zip(const Vector& a, const Vector& b, std::index_sequence<i...>) {
    return __builtin_shufflevector(a, b, (first + i / 2 + (i % 2) * count)...);
  }
  static Vector zip_first(const Vector& a, const Vector& b) { return zip<0>(a, b, std::make_index_sequence<count>()); }
  static Vector zip_second(const Vector& a, const Vector& b) {
    return zip<count / 2>(a, b, std::make_index_sequence<count>());
  }
};

/// A stretch of each of 32 outputs.
template <class Element>
using Stretches = Element[panel_width][stretch / sizeof(Element)];

/// Zips the first half of an array of 32 with its second half, `rounds` times: the bits of every index turn round by that
/// many. Goes by groups whose members meet in these rounds, so that they stay in registers.
template <class Element, int rounds, class Load, class Store>
void zip_halves(Load load, Store store) {
  using Lanes = Lanes<Element>;
  constexpr index_t size = 1 << rounds, groups = panel_width / size;
  for (index_t g = 0; g < groups; ++g) {
    typename Lanes::Vector group[2][size];
#pragma GCC unroll 8
    for (index_t i = 0; i < size; ++i) group[0][i] = load(g + i * groups);
#pragma GCC unroll 3
    for (int round = 0; round < rounds; ++round)
#pragma GCC unroll 4
      for (index_t i = 0; i < size / 2; ++i) {
        const auto &a = group[round % 2][i], &b = group[round % 2][i + size / 2];
        group[1 - round % 2][2 * i] = Lanes::zip_first(a, b);
        group[1 - round % 2][2 * i + 1] = Lanes::zip_second(a, b);
      }
#pragma GCC unroll 8
    for (index_t i = 0; i < size; ++i) store(g * size + i, group[rounds % 2][i]);
  }
}

/// Transposes the 16 bytes at `first` of every stretch to [input][32]: after five rounds the index (output, input), whose
/// first part has 5 bits, has become (input, output).
template <class Element>
void transpose(const Stretches<Element>& from, index_t first, Element* out) {
  using Vector = typename Lanes<Element>::Vector;
  Vector between[panel_width];
  zip_halves<Element, 3>(
      [&](index_t j) {
        Vector loaded;
        std::memcpy(&loaded, from[j] + first, sizeof loaded);
        return loaded;
      },
      [&](index_t j, const Vector& vector) { between[j] = vector; });
  zip_halves<Element, 2>([&](index_t j) { return between[j]; },
                         [&](index_t j, const Vector& vector) { std::memcpy(out + j * Lanes<Element>::count, &vector, sizeof vector); });
}

/// An `Element` is what stays together: an element of the matrix, a pair of inputs in bf16 or a quad in i8.
template <class Element>
void pack(const MatrixView& matrix, index_t panel, Element* out) {
  const index_t bytes = element_size(matrix.type), stretch_inputs = stretch / bytes;
  const index_t first = panel * panel_width, outputs = std::min<index_t>(panel_width, matrix.rows - first);
  const index_t stored = stored_panel_inputs(matrix.type, matrix.columns);
  const auto* const data = static_cast<const std::byte*>(matrix.data);
  alignas(64) Stretches<Element> stretches = {};

  for (index_t k0 = 0; k0 < stored; k0 += stretch_inputs) {
    const index_t inputs = std::min(stretch_inputs, matrix.columns - std::min(k0, matrix.columns));
    // A copy first: rows at a distance of a power of two share a cache set.
    for (index_t j = 0; j < outputs; ++j) {
      const std::byte* p = data + ((first + j) * matrix.row_stride + k0 * matrix.column_stride) * bytes;
      auto* const own = reinterpret_cast<std::byte*>(stretches[j]);
      if (matrix.column_stride == 1 && inputs == stretch_inputs) {
        std::memcpy(own, p, stretch);
        for (index_t b = 0; b < stretch; b += 64) __builtin_prefetch(p + stretch + b, 0, 2);  // the next one: to the second cache
      } else {
        for (index_t k = 0; k < inputs; ++k) std::memcpy(own + k * bytes, p + k * matrix.column_stride * bytes, bytes);
        std::memset(own + inputs * bytes, 0, stretch - inputs * bytes);
      }
    }
    const index_t elements = std::min(stretch_inputs, stored - k0) * bytes / sizeof(Element);
    for (index_t k = 0; k < elements; k += Lanes<Element>::count) {
      Element block[Lanes<Element>::count * panel_width];
      const bool whole = k + Lanes<Element>::count <= elements;
      transpose<Element>(stretches, k, whole ? out : block);
      if (!whole) std::memcpy(out, block, (elements - k) * panel_width * sizeof(Element));
      out += Lanes<Element>::count * panel_width;
    }
  }
}

}  // namespace

index_t stored_panel_inputs(DType type, index_t inputs) {
  const index_t together = type == DType::bf16 ? simd::tile_block : type == DType::i8 ? simd::quad : 1;
  return (inputs + together - 1) / together * together;
}

void pack_panel(const MatrixView& matrix, index_t panel, std::byte* out) {
  if (matrix.type == DType::bf16 || matrix.type == DType::i8) return pack(matrix, panel, reinterpret_cast<std::uint32_t*>(out));
  switch (element_size(matrix.type)) {
    case 1: return pack(matrix, panel, reinterpret_cast<std::uint8_t*>(out));
    case 2: return pack(matrix, panel, reinterpret_cast<std::uint16_t*>(out));
    default: return pack(matrix, panel, reinterpret_cast<std::uint32_t*>(out));
  }
}

}  // namespace kv
