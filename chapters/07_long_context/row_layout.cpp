#include "chapters/07_long_context/row_layout.hpp"

namespace kv {

RowLayout layout_of(const HeadSizes& sizes) {
  return {.heads = sizes.key_value_heads,
          .key_width = sizes.key_width,
          .value_offset = sizes.key_width,
          .value_width = sizes.value_width};
}

RowLayout layout_of(const LatentSizes& sizes) {
  return {.heads = 1, .key_width = sizes.row_width(), .value_offset = 0, .value_width = sizes.rank};
}

}  // namespace kv
