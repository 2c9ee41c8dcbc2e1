#include "chapters/09_paged_cache/paged_layer.hpp"

namespace kv {

StateBytes PagedLayer::state_bytes() const {
  const PoolUsage usage = table_->usage();
  return {.allocated = usage.pages * usage.page_rows * store_->row_bytes(), .used = usage.rows * store_->row_bytes()};
}

}  // namespace kv
