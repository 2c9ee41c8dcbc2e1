#include "chapters/08_quantised_cache/quantised_cache.hpp"

#include <algorithm>

#include "chapters/08_quantised_cache/read_block.hpp"

namespace kv {

QuantisedCache::QuantisedCache(const RowFormats& formats, const RowLayout& layout, index_t capacity)
    : formats_(formats),
      layout_(layout),
      capacity_(capacity),
      rows_(layout.heads * capacity * formats.bytes()) {}

// [append]
void QuantisedCache::append(const Tensor<3>& keys, const Tensor<3>& values, index_t first,
                            index_t count) {
  require_room(length_, capacity_, count);
  require_shape("append: keys (N,G,D)", keys, {keys.shape(0), heads(), formats_.first->width()});
  require_shape("append: values (N,G,W)", values,
                {keys.shape(0), heads(), formats_.second->width()});
  for (index_t n = first; n < first + count; ++n, ++length_)
    for (index_t g = 0; g < heads(); ++g) store(g, kv::row(keys, n, g), kv::row(values, n, g));
}

void QuantisedCache::store(index_t g, std::span<const float> first, std::span<const float> second) {
  std::byte* const out = row(g, length_);
  formats_.first->store(first, out);
  formats_.second->store(second, out + formats_.first->bytes());
}
// [append]

void QuantisedCache::append(const Tensor<2>& rows, index_t first, index_t count) {
  require_room(length_, capacity_, count);
  require_shape("append: rows (N,R+P)", rows, {rows.shape(0), formats_.width()});
  const index_t rank = formats_.first->width();
  for (index_t n = first; n < first + count; ++n, ++length_)
    store(0, kv::row(rows, n).first(rank), kv::row(rows, n).subspan(rank));
}

const RowBlock& QuantisedCache::block(index_t g, index_t first, index_t count) const {
  const index_t bytes = formats_.bytes();
  const StoredRows rows{row(g, first), bytes, count};
  return read_block(formats_, layout_, {&rows, 1}, {row(g, first + count), bytes, bytes});
}

index_t QuantisedCache::truncate(index_t length) {
  require_held(length, length_);
  return length_ = length;
}

index_t QuantisedCache::copy(const QuantisedCache& other, index_t length) {
  require_held(length, other.length_);
  for (index_t g = 0; g < heads(); ++g)
    std::copy_n(other.row(g, 0), length * formats_.bytes(), row(g, 0));
  return length_ = length;
}

StateBytes QuantisedCache::bytes() const {
  return {.allocated = rows_.bytes(), .used = length_ * heads() * formats_.bytes()};
}

}  // namespace kv
