#pragma once
/// @file
/// Serves many requests with one decoder, a step at a time.
#include <list>
#include <memory>

#include "chapters/09_paged_cache/page_table.hpp"
#include "chapters/09_paged_cache/policy.hpp"
#include "chapters/09_paged_cache/sequence.hpp"
#include "common/model/decoder.hpp"

namespace kv {

/// What may be chosen about a scheduler.
struct SchedulerOptions {
  index_t tokens_per_step = 512;  ///< fed at most; never fewer than there are places in the batch
  bool reuse = true;              ///< full pages are kept and found again
  Policy policy = continuous_batching;
};

/// What a scheduler has counted since it was made, and how things stand.
struct SchedulerStats {
  std::uint64_t requests = 0;           ///< accepted
  std::uint64_t answers = 0;            ///< ended, for whatever reason
  std::uint64_t steps = 0;
  std::uint64_t prompt_tokens = 0;      ///< of requests that were admitted, each counted once
  std::uint64_t reused_tokens = 0;      ///< of these, found in the cache; hit rate = reused / prompt
  std::uint64_t cut_hits = 0;           ///< hits that ended where the cache goes on with other tokens
  std::uint64_t fed_tokens = 0;         ///< computed, again after a preemption too
  std::uint64_t new_tokens = 0;         ///< drawn
  std::uint64_t preemptions = 0;
  index_t waiting = 0, running = 0;     ///< answers, now
  PoolUsage pages;                      ///< now

  double hit_rate() const {
    return prompt_tokens == 0 ? 0.0 : static_cast<double>(reused_tokens) / static_cast<double>(prompt_tokens);
  }
};

/// Continuous batching over a paged cache. For one thread.
///
/// What a request gets does not depend, in a single bit, on who else is served, on what is found in the cache, on the
/// policy, or on being preempted: its tokens are those of generate() on it alone.
///
/// Every step takes what the policy says, and sees to the pages: where too few are left, the latest arrival gives its own
/// back and is computed again later, at the front of the queue. So the earliest one always gets on, and nobody starves.
/// @see Kwon et al. 2023, section 4.5, arXiv:2309.06180, for preemption by computing again
class Scheduler {
 public:
  /// @param decoder of a stage on `table`; its limits say how many sequences run together and how long each may be
  Scheduler(Decoder decoder, std::shared_ptr<PageTable> table, SchedulerOptions options = {});

  /// May be called from any thread.
  /// @throws Error for a request that could never be served: no prompt, no answers, a token outside the vocabulary, too long
  /// for the model or for the whole pool, or a number of its sampling out of range
  void require_valid(const Request& request) const;

  /// Queues a request.  @param id larger than any before  @throws Error as require_valid
  void submit(RequestId id, Request request);
  /// Ends what is left of a request: its pages are back when this returns. One that is not there is no error.
  void cancel(RequestId id);
  void cancel_all();

  /// Feeds one batch, draws a token for every sequence that is complete, tells the clients.
  /// @return whether anything is left to be done
  bool step();

  bool idle() const { return sequences_.empty(); }
  SchedulerStats stats() const;
  /// Of every page, whose it is: to be drawn.
  std::vector<PageView> pages() const;

 private:
  using Sequences = std::list<Sequence>;
  /// What a sequence is fed in this step.
  struct Share {
    Sequences::iterator sequence;
    index_t tokens;
  };

  std::vector<Share> shares_of_step();
  Candidate describe(const Sequence& sequence) const;
  Segment segment_of(const Sequence& sequence, index_t tokens) const;
  std::optional<index_t> free_place() const;
  void admit(Sequence& sequence);
  void leave(Sequence& sequence);
  void preempt_until_they_fit(std::vector<Share>& shares);
  void feed(const std::vector<Share>& shares);
  void draw_next(Sequences::iterator sequence, std::span<const float> logits);
  std::vector<Sequences::iterator> fork(Sequences::iterator first);
  void tell(Sequences::iterator sequence, std::span<const float> logits);
  void end(Sequences::iterator sequence, Finish finish, const std::string& error = {});

  Decoder decoder_;
  std::shared_ptr<PageTable> table_;
  SchedulerOptions options_;
  Sequences sequences_;                // waiting and running, in the order of arrival
  std::vector<bool> taken_;            // places of the batch
  std::optional<RequestId> latest_;
  SchedulerStats counted_;
};

}  // namespace kv
