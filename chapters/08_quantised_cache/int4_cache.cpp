#include "chapters/08_quantised_cache/int4_cache.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include "common/tensor/widen.hpp"

namespace kv {

Int4Cache::Int4Cache(const HeadSizes& sizes, index_t capacity)
    : sizes_(sizes),
      values_(sizes.value_width),
      capacity_(capacity),
      group_count_(capacity == 0 ? 0 : (capacity - 1) / int4_group),  // the last one stays open
      groups_(heads() * group_count_ * group_bytes()),
      open_(empty<3>({std::min(int4_group, capacity), heads(), D() + value_width()})) {}

// [append]
void Int4Cache::append(const Tensor<3>& keys, const Tensor<3>& values, index_t first,
                       index_t count) {
  require_room(length_, capacity_, count);
  require_shape("append: keys (N,G,D)", keys, {keys.shape(0), heads(), D()});
  require_shape("append: values (N,G,W)", values, {keys.shape(0), heads(), value_width()});
  if (count > room_in_group())
    throw std::invalid_argument("append: " + std::to_string(count) + " rows are of two groups");
  if (length_ == rounded_ + int4_group) round_open_group();
  for (index_t n = first; n < first + count; ++n, ++length_)
    for (index_t g = 0; g < heads(); ++g) {
      const std::span<float> both = row(open_, length_ % int4_group, g);
      std::ranges::copy(row(keys, n, g), both.begin());
      std::ranges::copy(row(values, n, g), both.subspan(D()).begin());
    }
}
// [append]

// [round]
void Int4Cache::round_open_group() {
  for (index_t g = 0; g < heads(); ++g) {
    std::byte* const out = group(g, rounded_ / int4_group);
    store_keys(g, out);
    for (index_t i = 0; i < int4_group; ++i)
      values_.store(row(open_, i, g).subspan(D()), out + keys_bytes() + i * values_.bytes());
  }
  rounded_ += int4_group;
}

void Int4Cache::store_keys(index_t g, std::byte* out) const {
  std::byte* const scales = out + int4_group * code_bytes();
  for (index_t d = 0; d < D(); ++d) {
    const Int4Scale scale(&open_(0, g, d), heads() * open_.shape(2),
                          int4_group);  // down the channel
    for (index_t i = 0; i < int4_group; ++i)
      put_code(out + i * code_bytes(), d, scale.code(open_(i, g, d)));
    std::memcpy(scales + 2 * d, &scale.step, 2);
    std::memcpy(scales + 2 * (D() + d), &scale.offset, 2);
  }
}
// [round]

void Int4Cache::widen(index_t g, index_t first, index_t count, float* out) const {
  thread_local std::vector<float> scales;
  scales.resize(2 * D());
  const index_t width = D() + value_width();
  for (index_t s = first; s < first + count;) {
    const std::byte* const stored = group(g, s / int4_group);
    const index_t end = std::min(first + count, (s / int4_group + 1) * int4_group);
    kv::widen(DType::f16, stored + int4_group * code_bytes(), 1.0f, scales);
    for (; s < end; ++s, out += width) {
      const index_t i = s % int4_group;
      widen_codes(stored + i * code_bytes(), scales.data(), scales.data() + D(), {out, D()});
      values_.widen({stored + keys_bytes() + i * values_.bytes(), 0, 1}, out + D(), width);
    }
  }
}

// [block]
const RowBlock& Int4Cache::block(index_t g, index_t first, index_t count) const {
  thread_local Scratch scratch;
  thread_local RowBlock block;
  block.pieces.clear();
  block.next = {};
  const index_t width = D() + value_width(), end = first + count;
  const auto add = [&](const float* row, index_t stride, index_t rows) {
    block.pieces.push_back({{row, stride, rows, D()}, {row + D(), stride, rows, value_width()}});
  };
  if (first < rounded_) {
    const index_t rows = std::min(end, rounded_) - first;
    float* const wide = scratch.floats(rows * width);
    widen(g, first, rows, wide);
    add(wide, width, rows);
    const index_t row_bytes = group_bytes() / int4_group;
    block.next = {group(g, (first + rows) / int4_group), row_bytes, row_bytes};
  }
  if (end > rounded_) {
    const index_t exact = std::max(first, rounded_);
    add(&open_(exact % int4_group, g, 0), heads() * width, end - exact);
  }
  return block;
}
// [block]

// [truncate]
index_t Int4Cache::truncate(index_t length) {
  require_held(length, length_);
  length_ = kept(length);
  rounded_ = std::min(rounded_, length_);
  return length_;
}

index_t Int4Cache::copy(const Int4Cache& other, index_t length) {
  require_held(length, other.length_);
  length_ = other.kept(length);
  rounded_ = std::min(other.rounded_, length_);
  for (index_t g = 0; g < heads(); ++g)
    std::copy_n(other.group(g, 0), rounded_ / int4_group * group_bytes(), group(g, 0));
  if (length_ > rounded_) open_ = other.open_;
  return length_;
}
// [truncate]

StateBytes Int4Cache::bytes() const {
  const std::size_t open_row = heads() * (D() + value_width()) * sizeof(float);
  return {
      .allocated = groups_.bytes() + open_.size() * sizeof(float),
      .used = rounded_ / int4_group * heads() * group_bytes() + (length_ - rounded_) * open_row};
}

}  // namespace kv
