#include "chapters/10_tensor_parallel/rank_group.hpp"

#include <array>
#include <thread>

#include "common/checkpoint/fingerprint.hpp"
#include "chapters/10_tensor_parallel/slices.hpp"
#include "chapters/10_tensor_parallel/thread_communicator.hpp"
#include "common/tensor/parallel.hpp"

namespace kv {
namespace {

/// What rank 0 tells the others to do.
struct Call {
  enum Kind : index_t { logits, truncate, share, prompt_ends, report, end, make, leave };
  Kind kind = end;
  std::array<index_t, 4> numbers = {};
  std::vector<Token> tokens = {};  // or the characters of a path
  Batch batch = {};
  std::vector<index_t> wanted = {};
};

/// Rank 0 gives, the others take.
Call& pass(Communicator& line, Call& call) {
  std::array<index_t, 8> head{call.kind, call.tokens.size(), call.batch.size(), call.wanted.size()};
  std::ranges::copy(call.numbers, head.begin() + 4);
  line.broadcast(std::as_writable_bytes(std::span(head)));
  call.kind = static_cast<Call::Kind>(head[0]);
  call.tokens.resize(head[1]);
  call.batch.resize(head[2]);
  call.wanted.resize(head[3]);
  std::copy(head.begin() + 4, head.end(), call.numbers.begin());
  if (!call.tokens.empty()) line.broadcast(call.tokens);
  if (!call.batch.empty()) line.broadcast(call.batch);
  if (!call.wanted.empty()) line.broadcast(call.wanted);
  for (Segment& segment : call.batch) segment.tokens = std::span(call.tokens).subspan(segment.first_row, segment.rows);
  return call;
}

/// Every rank's report, on every rank.
std::vector<RankReport> exchange_reports(Communicator& line, const Transformer& own) {
  const std::vector<RankReport> mine{{own.state_bytes(), line.sent()}};
  std::vector<RankReport> reports;
  for (const auto& from_one : line.all_to_all(std::vector<std::vector<RankReport>>(line.ranks(), mine))) reports.push_back(from_one[0]);
  return reports;
}

// [follow]
/// Does on this rank what the call says.
Tensor<2> perform(Communicator& line, Transformer& own, const Call& call) {
  const auto [a, b, c, d] = call.numbers;
  switch (call.kind) {
    case Call::logits: return own.logits(call.tokens, call.batch, call.wanted);
    case Call::truncate: own.truncate(a, std::min(b, own.length(a))); break;
    case Call::share: own.share(a, b, c); break;
    case Call::prompt_ends: own.prompt_ends(a); break;
    case Call::report: exchange_reports(line, own); break;
    default: break;
  }
  return {};
}

/// What a rank other than 0 does.
void follow(Communicator& line, Transformer& own) {
  for (Call call; pass(line, call).kind != Call::end;) perform(line, own, call);
}
// [follow]

/// Rank 0 of the job that this process belongs to; null: none.
Communicator* the_job = nullptr;
bool job_is_busy = false;

/// Rank 0's end, and the threads of the others if they are threads.
class RankGroup : public Transformer {
 public:
  RankGroup(Communicator& line, const Limits& limits, index_t threads) : line_(line), share_(threads), lengths_(limits.sequences) {}
  ~RankGroup() override {
    Call end{Call::end};
    try {
      if (!failed_) pass(line_, end);
    } catch (const std::exception&) {  // a rank has failed since
    }
    for (std::thread& follower : followers_) follower.join();
    if (&line_ == the_job) job_is_busy = false;
  }

  void begin(const std::function<std::unique_ptr<Transformer>()>& make_own) {
    together([&] {
      own_ = make_own();
      line_.barrier();
    });
  }

  // [logits]
  Tensor<2> logits(std::span<const Token> tokens, const Batch& batch, std::span<const index_t> wanted) override {
    if (failed_) throw Error(*failed_);
    Tensor<2> result = run({Call::logits, {}, {tokens.begin(), tokens.end()}, batch, {wanted.begin(), wanted.end()}});
    for (const Segment& segment : batch) lengths_.at(segment.sequence) += segment.rows;
    return result;
  }
  // [logits]
  index_t length(index_t sequence) const override { return lengths_.at(sequence); }
  index_t truncate(index_t sequence, index_t length) override {
    lengths_.at(sequence) = std::min(length, lengths_[sequence]);
    run({Call::truncate, {sequence, lengths_[sequence]}});
    return lengths_[sequence];
  }
  index_t share(index_t from, index_t to, index_t length) override {
    run({Call::share, {from, to, length}});
    return lengths_.at(to) = own_->length(to);  // the same on every rank that keeps all sequences; else nothing is shared
  }
  void prompt_ends(index_t sequence) override { run({Call::prompt_ends, {sequence}}); }
  index_t vocabulary() const override { return own_->vocabulary(); }
  /// Of all ranks together.
  StateBytes state_bytes() const override {
    StateBytes sum;
    for (const RankReport& report : reports()) sum += report.state;
    return sum;
  }
  std::vector<RankReport> reports() const {
    std::vector<RankReport> result;
    Call call{Call::report};
    if (!failed_) together([&] { result = exchange_reports((pass(line_, call), line_), *own_); });
    return result;
  }

  std::vector<std::unique_ptr<Communicator>> ends_;  // of threads
  std::vector<std::thread> followers_;

 private:
  /// After a failure nothing is left to be done: whoever cleans up behind an error must not meet another one.
  Tensor<2> run(Call call) {
    Tensor<2> result;
    if (!failed_) together([&] { result = perform(line_, *own_, pass(line_, call)); });
    return result;
  }
  void together(const std::function<void()>& step) const {
    const ThreadShare::Use use(share_);
    try {
      step();
    } catch (const std::exception& error) {
      failed_ = error.what();
      line_.abort(error.what());
      throw;
    }
  }

  Communicator& line_;
  mutable ThreadShare share_;
  std::vector<index_t> lengths_;  // of every sequence, wherever it is
  std::unique_ptr<Transformer> own_;
  mutable std::optional<std::string> failed_;
};

/// An equal part of this process's threads for every rank.
index_t threads_for(index_t rank, index_t ranks) { return std::max<index_t>(1, split(threads(), ranks)[rank].count); }

// [threads]
std::unique_ptr<Transformer> on_threads(Cut cut, const Checkpoint& checkpoint, const Limits& limits, index_t ranks) {
  std::vector<std::unique_ptr<Communicator>> ends = thread_communicators(ranks);
  auto group = std::make_unique<RankGroup>(*ends[0], limits, threads_for(0, ranks));
  group->ends_ = std::move(ends);
  for (index_t r = 1; r < ranks; ++r)
    group->followers_.emplace_back([=, &line = *group->ends_[r], count = threads_for(r, ranks)] {
      ThreadShare share(count);
      const ThreadShare::Use use(share);
      try {
        const auto own = make_rank_model(cut, checkpoint, limits, line);
        line.barrier();
        follow(line, *own);
      } catch (const std::exception& error) {
        line.abort(error.what());
      }
    });
  group->begin([&] { return make_rank_model(cut, checkpoint, limits, *group->ends_[0]); });
  return group;
}
// [threads]

std::unique_ptr<Transformer> on_job(Cut cut, const Checkpoint& checkpoint, const Limits& limits, Communicator& job) {
  if (std::exchange(job_is_busy, true)) throw Error("the ranks of this job run one model at a time");
  auto group = std::make_unique<RankGroup>(job, limits, threads_for(0, job.ranks()));
  const std::string directory = std::filesystem::absolute(checkpoint.directory()).string();
  Call call{Call::make, {static_cast<index_t>(cut), limits.sequences, limits.capacity, threads_for(0, job.ranks())}, {directory.begin(), directory.end()}};
  group->begin([&] {
    pass(job, call);
    require_same(job, "checkpoint", fingerprint(checkpoint));
    return make_rank_model(cut, checkpoint, limits, job);
  });
  return group;
}

void follow_model(Communicator& job, const Call& call) {
  const auto [cut, sequences, capacity, thread_count] = call.numbers;
  ThreadShare share(thread_count);
  const ThreadShare::Use use(share);
  const Checkpoint checkpoint(std::string(call.tokens.begin(), call.tokens.end()));
  require_same(job, "checkpoint", fingerprint(checkpoint));
  const auto own = make_rank_model(static_cast<Cut>(cut), checkpoint, {.sequences = sequences, .capacity = capacity}, job);
  job.barrier();
  follow(job, *own);
}

}  // namespace

std::unique_ptr<Transformer> make_on_ranks(Cut cut, const Checkpoint& checkpoint, const Limits& limits, const StageOptions& options) {
  const index_t asked = options.size("ranks");
  if (the_job && options.is_given("ranks") && asked != the_job->ranks())
    throw UsageError("--ranks " + std::to_string(asked) + ": this job was started with " + std::to_string(the_job->ranks()) + " ranks");
  const index_t ranks = the_job ? the_job->ranks() : asked;
  if (cut != Cut::experts) split_heads(head_sizes(attention_tensors(checkpoint, 0)), ranks);  // before anything is started
  return the_job ? on_job(cut, checkpoint, limits, *the_job) : on_threads(cut, checkpoint, limits, ranks);
}

std::vector<RankReport> rank_reports(const Transformer& on_ranks) { return dynamic_cast<const RankGroup&>(on_ranks).reports(); }

void join_job(Communicator& job) { the_job = &job; }

int follow_job(Communicator& job) {
  Call call;
  while (pass(job, call).kind != Call::leave) follow_model(job, call);
  return static_cast<int>(call.numbers[0]);
}

void leave_job(int exit_code) {
  Call call{Call::leave, {static_cast<index_t>(exit_code)}};
  pass(*the_job, call);
}

void require_same(Communicator& line, std::string_view what, std::uint64_t own) {
  std::uint64_t first = own;
  line.broadcast(std::as_writable_bytes(std::span(&first, 1)));
  if (own != first) throw Error("rank " + std::to_string(line.rank()) + " has another " + std::string(what) + " than rank 0: all ranks need the same");
  line.barrier();
}

}  // namespace kv
