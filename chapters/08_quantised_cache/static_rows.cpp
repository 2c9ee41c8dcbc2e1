#include "chapters/08_quantised_cache/static_rows.hpp"

#include <cmath>
#include <limits>

#include "common/tensor/widen.hpp"

namespace kv {

void StaticRows::store(std::span<const float> row, std::byte* out) const {
  out[bytes() - 1] = {};  // may belong to no code
  for (index_t i = 0; i < row.size(); ++i) {
    const float quotient =
        std::isfinite(row[i]) ? row[i] / scale_ : std::numeric_limits<float>::quiet_NaN();
    out[i] = std::byte{to_f8_e4m3(quotient)};
  }
}

void StaticRows::widen(const StoredRows& rows, float* out, index_t stride) const {
  for (index_t s = 0; s < rows.count; ++s)
    kv::widen(DType::f8_e4m3, rows.data + s * rows.stride, scale_, {out + s * stride, width()});
}

}  // namespace kv
