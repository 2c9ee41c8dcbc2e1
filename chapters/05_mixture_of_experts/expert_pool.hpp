#pragma once
/// @file
/// The experts of one layer, loaded when they are first chosen.
#include <functional>
#include <mutex>

#include "common/model/feed_forward.hpp"

namespace kv {

/// Holds E experts. One that no token has been sent to has no weights in memory, and its pages in the checkpoint's file
/// have not been read. What is loaded stays.
class ExpertPool {
 public:
  using Load = std::function<std::shared_ptr<const FeedForward>(index_t expert)>;

  /// @param load makes one expert; called at most once for each, unless it throws
  ExpertPool(index_t count, Load load);

  /// Safe to call from several threads.  @throws std::out_of_range, and what `load` throws
  const FeedForward& expert(index_t e) const;

  index_t count() const { return experts_.size(); }
  /// How many are in memory.
  index_t loaded() const;

 private:
  Load load_;
  mutable std::mutex loading_;  // guards experts_
  mutable std::vector<std::shared_ptr<const FeedForward>> experts_;
};

}  // namespace kv
