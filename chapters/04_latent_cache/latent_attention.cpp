#include "chapters/04_latent_cache/latent_attention.hpp"

#include "chapters/04_latent_cache/absorbed_attention.hpp"
#include "chapters/04_latent_cache/cost.hpp"
#include "chapters/04_latent_cache/decompressed_attention.hpp"

namespace kv {
namespace {

/// Some segments of a batch as a batch of their own.
struct Part {
  Batch theirs;  // first_row in the whole batch
  Batch own;     // first_row in the part
  index_t rows = 0;

  void add(const Segment& segment) {
    theirs.push_back(segment);
    own.push_back(segment);
    own.back().first_row = rows;
    rows += segment.rows;
  }
  Tensor<3> gather(const Tensor<3>& whole) const {
    Tensor<3> part = empty<3>({rows, whole.shape(1), whole.shape(2)});
    for (index_t i = 0; i < own.size(); ++i)
      put_rows(part, own[i].first_row, kv::rows(whole, theirs[i].first_row, own[i].rows));
    return part;
  }
  void scatter(const Tensor<3>& part, Tensor<3>& whole) const {
    for (index_t i = 0; i < own.size(); ++i)
      put_rows(whole, theirs[i].first_row, kv::rows(part, own[i].first_row, own[i].rows));
  }
};

}  // namespace

LatentAttention::LatentAttention(std::shared_ptr<const LatentProjection> projection, Absorption absorption,
                                 const Limits& limits)
    : LatentCacheAttention(std::move(projection), limits), absorption_(std::move(absorption)) {}

// [attend]
Tensor<3> LatentAttention::attend_caches(const Tensor<3>& queries, const Batch& batch) const {
  const LatentSizes& sizes = projection().latent_sizes();
  Part to_expand, to_absorb;
  for (const Segment& segment : batch)
    (expanding_is_cheaper(sizes, segment.rows, length(segment.sequence)) ? to_expand : to_absorb)
        .add(segment);

  Tensor<3> mixed = empty<3>({queries.shape(0), sizes.heads, sizes.value_width});
  to_expand.scatter(
      attend_decompressed(to_expand.gather(queries), to_expand.own, caches(), projection()), mixed);
  to_absorb.scatter(
      attend_absorbed(to_absorb.gather(queries), to_absorb.own, caches(), absorption_, sizes),
      mixed);
  return mixed;
}
// [attend]

}  // namespace kv
