#pragma once
/// @file
/// Stage `streaming`: sinks and a window on a model that was made without. What is forgotten is lost.
#include <memory>

#include "chapters/01_uncached_attention/head_projection.hpp"
#include "chapters/07_long_context/ring_cache.hpp"
#include "common/model/attention.hpp"

namespace kv {

/// How many rows a token sees.
struct StreamingSizes {
  index_t sinks;   ///< of the first tokens
  index_t budget;  ///< in all, the token's own counted
  index_t window() const { return budget - sinks; }
  /// Where a token stands among the rows that it sees.
  index_t position_in_cache(index_t position) const { return std::min(position, budget - 1); }
  /// In a layer that was made with a window: where the budget holds that, the layer sees it and nothing else, as it always did.
  StreamingSizes in_layer(index_t own_window) const {
    return own_window <= budget ? StreamingSizes{.sinks = 0, .budget = own_window} : *this;
  }
};

/// Token t sees the first `sinks` tokens and the latest ones, `budget` in all: a rule that knows of no chunk. Positions are
/// those among the rows that are held. Between rows of the window distances are what they were, so keys stay turned as they
/// were stored. Only the sinks come nearer: they are met by a second query, turned to position min(t, budget - 1).
/// @see Xiao et al. 2023, section 3.2, arXiv:2309.17453
class StreamingAttention : public Attention {
 public:
  /// @param limits its capacity bounds tokens, of which any number may be forgotten
  StreamingAttention(std::shared_ptr<const HeadProjection> projection, const Limits& limits, const StreamingSizes& sizes);

  Tensor<2> forward(const Tensor<2>& x, const Batch& batch) override;
  index_t length(index_t sequence) const override { return caches_.at(sequence).length(); }
  index_t truncate(index_t sequence, index_t length) override { return caches_.at(sequence).truncate(length); }
  StateBytes state_bytes() const override;

 private:
  std::shared_ptr<const HeadProjection> projection_;
  StreamingSizes sizes_;
  std::vector<RingCache> caches_;  // one for each sequence
};

/// The second queries' positions.
List<index_t> positions_in_cache(const List<index_t>& positions, const StreamingSizes& sizes);

}  // namespace kv
