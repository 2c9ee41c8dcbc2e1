#pragma once
/// @file
/// Stage `paged`: keys and values in pages, which sequences may share.
#include "chapters/01_uncached_attention/head_projection.hpp"
#include "chapters/09_paged_cache/paged_layer.hpp"

namespace kv {

/// As PreallocatedAttention, with a look-up for every page. Where a row lies changes no bit of what is made of it.
/// @see Kwon et al. 2023, section 4.1, arXiv:2309.06180
class PagedAttention : public PagedLayer {
 public:
  PagedAttention(std::shared_ptr<const HeadProjection> projection, std::shared_ptr<PageTable> table,
                 std::shared_ptr<PageStore> store);

  Tensor<2> forward(const Tensor<2>& x, const Batch& batch) override;

 private:
  std::shared_ptr<const HeadProjection> projection_;
};

}  // namespace kv
