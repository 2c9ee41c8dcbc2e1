#include "chapters/09_paged_cache/scheduler.hpp"

#include <algorithm>

#include "common/files/error.hpp"
#include "common/model/generate.hpp"

namespace kv {
namespace {

std::string count_of(index_t count, std::string_view what) { return std::to_string(count) + " " + std::string(what); }

/// Of another answer than the first to the same prompt.
Sequence sibling(const Sequence& first, index_t answer) {
  Sampling sampling = first.request->sampling;
  sampling.seed += answer;
  return {.request = first.request, .id = first.id, .answer = answer, .sampler = Sampler(sampling),
          .tokens = first.request->prompt, .reused = first.reused, .admitted_before = true};
}

}  // namespace

Scheduler::Scheduler(Decoder decoder, std::shared_ptr<PageTable> table, SchedulerOptions options)
    : decoder_(std::move(decoder)),
      table_(std::move(table)),
      options_(std::move(options)),
      taken_(decoder_.limits().sequences, false) {}

void Scheduler::require_valid(const Request& request) const {
  if (request.prompt.empty()) throw Error("the prompt is empty: there is nothing to continue");
  if (request.answers == 0 || request.max_new_tokens == 0) throw Error("a request needs at least one answer of one token");
  for (const Token token : request.prompt)
    if (token < 0 || static_cast<index_t>(token) >= decoder_.vocabulary())
      throw Error("token id " + std::to_string(token) + " is outside the vocabulary of " + std::to_string(decoder_.vocabulary()));
  const PageSizes& sizes = table_->sizes();
  const index_t room = std::min(decoder_.limits().capacity, sizes.pages * sizes.rows), prompt = request.prompt.size();
  if (prompt > room || request.max_new_tokens > room - prompt + 1)  // the last one is not fed
    throw Error("a prompt of " + count_of(prompt, "tokens and ") + count_of(request.max_new_tokens, "new ones do not fit the ") +
                count_of(room, "that one answer may have: shorten the prompt or ask for fewer new tokens"));
  Sampler{request.sampling};
}

void Scheduler::submit(RequestId id, Request request) {
  require_valid(request);
  if (latest_ && id <= *latest_) throw std::logic_error("request " + std::to_string(id) + " comes after a later one");
  latest_ = id;
  ++counted_.requests;
  auto shared = std::make_shared<const Request>(std::move(request));
  sequences_.push_back({.request = shared, .id = id, .answer = 0, .sampler = Sampler(shared->sampling), .tokens = shared->prompt});
}

void Scheduler::cancel(RequestId id) {
  for (auto sequence = sequences_.begin(); sequence != sequences_.end(); ++sequence)
    if (sequence->id == id) end(sequence, Finish::cancelled);
}

void Scheduler::cancel_all() {
  for (auto sequence = sequences_.begin(); sequence != sequences_.end(); ++sequence) end(sequence, Finish::cancelled);
}

// [step]
bool Scheduler::step() {
  std::erase_if(sequences_, [](const Sequence& sequence) { return sequence.ended; });
  if (sequences_.empty()) return false;
  std::vector<Share> shares = shares_of_step();
  preempt_until_they_fit(shares);
  feed(shares);
  ++counted_.steps;
  std::erase_if(sequences_, [](const Sequence& sequence) { return sequence.ended; });
  return !sequences_.empty();
}
// [step]

// [plan]
std::vector<Scheduler::Share> Scheduler::shares_of_step() {
  index_t places = static_cast<index_t>(std::ranges::count(taken_, false));
  const StepBudget budget{std::max(options_.tokens_per_step, taken_.size()), places, table_->available()};
  std::vector<Share> shares;
  std::vector<Candidate> candidates;
  for (auto sequence = sequences_.begin(); sequence != sequences_.end(); ++sequence) {
    if (!sequence->place && places == 0) continue;  // there is no place for it whatever the policy says
    if (!sequence->place) --places;
    shares.push_back({sequence, 0});
    candidates.push_back(describe(*sequence));
  }
  const std::vector<index_t> given = options_.policy(candidates, budget);
  for (index_t i = 0; i < shares.size(); ++i) shares[i].tokens = std::min(given.at(i), candidates[i].pending);
  if (std::ranges::all_of(shares, [](const Share& share) { return share.tokens == 0; }))
    shares.front().tokens = std::min(candidates.front().pending, budget.tokens);  // whatever the policy says, somebody gets on
  std::erase_if(shares, [](const Share& share) { return share.tokens == 0; });
  for (const Share& share : shares)
    if (!share.sequence->place) admit(*share.sequence);
  return shares;
}

Candidate Scheduler::describe(const Sequence& sequence) const {
  if (sequence.place)
    return {.running = true, .pending = sequence.pending(),
            .pages = table_->needed({segment_of(sequence, sequence.pending())})};
  const PageTable::Outlook outlook = table_->look_up(sequence.tokens);
  return {.running = false, .pending = sequence.tokens.size() - outlook.reused, .pages = outlook.pages};
}
// [plan]

/// What the decoder feeds when a sequence is given so many tokens: these, and what its layers have forgotten.
Segment Scheduler::segment_of(const Sequence& sequence, index_t tokens) const {
  const index_t remembered = decoder_.remembered(*sequence.place);
  return {.sequence = *sequence.place, .first_row = 0, .rows = sequence.fed + tokens - remembered, .position = remembered};
}

// [admit]
void Scheduler::admit(Sequence& sequence) {
  const index_t place = free_place().value();
  taken_[place] = true;
  sequence.place = place;
  const PageTable::Hit hit = table_->reuse(place, sequence.tokens);
  sequence.fed = hit.reused;
  const auto known = std::span(sequence.tokens).first(hit.reused);
  decoder_.begin_with(place, {known.begin(), known.end()});
  if (sequence.admitted_before) return;  // what it left behind itself is no hit
  sequence.admitted_before = true;
  sequence.reused = hit.reused;
  counted_.prompt_tokens += sequence.tokens.size();
  counted_.reused_tokens += hit.reused;
  counted_.cut_hits += hit.cut;
}

/// Gives place and pages back; those that can be found are kept as long as nobody needs them.
void Scheduler::leave(Sequence& sequence) {
  if (!sequence.place) return;
  decoder_.truncate(*sequence.place, 0);
  taken_[*sequence.place] = false;
  sequence.place.reset();
  sequence.fed = 0;
}
// [admit]

std::optional<index_t> Scheduler::free_place() const {
  const auto place = std::ranges::find(taken_, false);
  return place == taken_.end() ? std::nullopt : std::optional(static_cast<index_t>(place - taken_.begin()));
}

// [preempt]
/// The latest arrival goes first. The earliest is never the latest but alone, and alone it fits: so
/// it always gets on.
void Scheduler::preempt_until_they_fit(std::vector<Share>& shares) {
  const auto fit = [&] {
    Batch batch;
    for (const Share& share : shares) batch.push_back(segment_of(*share.sequence, share.tokens));
    return table_->has_room(batch);
  };
  while (!fit()) {
    const auto latest = std::ranges::find_if(sequences_.rbegin(), sequences_.rend(),
                                             [](const Sequence& s) { return s.place.has_value(); });
    leave(*latest);
    ++latest->preemptions;
    ++counted_.preemptions;
    std::erase_if(shares, [](const Share& share) { return !share.sequence->place; });
  }
}
// [preempt]

// [feed]
void Scheduler::feed(const std::vector<Share>& shares) {
  std::vector<NewTokens> batch;
  for (const auto& [sequence, count] : shares) {
    const auto next = std::span(sequence->tokens).subspan(sequence->fed, count);
    batch.push_back({*sequence->place, {next.begin(), next.end()}});
  }
  Tensor<2> logits;
  try {
    logits = decoder_.last_logits(batch);
  } catch (const std::exception& error) {  // nobody knows whose fault it was; those who wait can still be served
    for (const Share& share : shares) end(share.sequence, Finish::failed, error.what());
    return;
  }
  for (const auto& [sequence, count] : shares) {
    sequence->fed += count;
    counted_.fed_tokens += count;
    if (options_.reuse) table_->remember(*sequence->place, std::span(sequence->tokens).first(sequence->fed));
  }
  for (index_t b = 0; b < shares.size(); ++b)
    if (const auto sequence = shares[b].sequence; !sequence->ended && sequence->pending() == 0) draw_next(sequence, row(logits, b));
}
// [feed]

void Scheduler::draw_next(Sequences::iterator sequence, std::span<const float> logits) {
  const Request& request = *sequence->request;
  const bool is_first = sequence->answer == 0 && sequence->new_tokens() == 0;
  Token token;
  try {
    const Place place{sequence->tokens, request.prompt.size(), request.max_new_tokens, request.stop};
    token = draw(sequence->sampler, logits, request.rules, place);
  } catch (const std::exception& error) {
    return end(sequence, Finish::failed, error.what());
  }
  std::vector<Sequences::iterator> siblings;
  if (is_first) {
    decoder_.prompt_ends(*sequence->place);
    siblings = fork(sequence);
  }
  sequence->tokens.push_back(token);
  tell(sequence, logits);
  for (const auto& each : siblings)
    if (each->place && !each->ended) draw_next(each, logits);
}

// [fork]
/// The other answers begin with the pages of the first. Those for which there is no place wait, and
/// find the full ones again.
std::vector<Scheduler::Sequences::iterator> Scheduler::fork(Sequences::iterator first) {
  std::vector<Sequences::iterator> siblings;
  auto after = std::next(first);
  for (index_t answer = 1; answer < first->request->answers; ++answer) {
    siblings.push_back(sequences_.insert(after, sibling(*first, answer)));
    const std::optional<index_t> place = free_place();
    if (!place) continue;
    taken_[*place] = true;
    siblings.back()->place = place;
    siblings.back()->fed = first->fed;
    decoder_.share(*first->place, *place, first->fed);
  }
  return siblings;
}
// [fork]

/// Tells the client of the latest token, and ends the answer where it ends.
void Scheduler::tell(Sequences::iterator sequence, std::span<const float> logits) {
  const Request& request = *sequence->request;
  const Token token = sequence->tokens.back();
  ++counted_.new_tokens;
  bool goes_on = false;
  try {
    goes_on = request.on_token({sequence->id, sequence->answer, token, logits});
  } catch (const std::exception& error) {
    return end(sequence, Finish::failed, error.what());
  }
  if (std::ranges::find(request.stop, token) != request.stop.end()) return end(sequence, Finish::stop);
  if (sequence->new_tokens() == request.max_new_tokens) return end(sequence, Finish::length);
  if (!goes_on) end(sequence, Finish::cancelled);
}

void Scheduler::end(Sequences::iterator sequence, Finish finish, const std::string& error) {
  if (sequence->ended) return;  // a client has cancelled what it was just told of
  leave(*sequence);
  sequence->ended = true;
  const Request& request = *sequence->request;
  const bool alone = sequence->answer != 0 || sequence->new_tokens() > 0;  // else its siblings end before they have begun
  for (index_t answer = sequence->answer; answer < (alone ? sequence->answer + 1 : request.answers); ++answer) {
    ++counted_.answers;
    try {
      request.on_end({.request = sequence->id, .answer = answer, .finish = finish, .error = error,
                      .prompt_tokens = request.prompt.size(), .reused_tokens = sequence->reused,
                      .new_tokens = sequence->new_tokens(), .preemptions = sequence->preemptions});
    } catch (const std::exception&) {  // it was the last that the client would hear: there is nobody to tell
    }
  }
}

SchedulerStats Scheduler::stats() const {
  SchedulerStats stats = counted_;
  for (const Sequence& sequence : sequences_) ++(sequence.place ? stats.running : stats.waiting);
  stats.pages = table_->usage();
  return stats;
}

std::vector<PageView> Scheduler::pages() const {
  std::vector<PageView> views = table_->views();
  std::vector<RequestId> request_of(taken_.size(), 0);
  for (const Sequence& sequence : sequences_)
    if (sequence.place) request_of[*sequence.place] = sequence.id;
  for (PageView& view : views)
    for (const index_t place : view.sequences) view.requests.push_back(request_of[place]);
  return views;
}

}  // namespace kv
