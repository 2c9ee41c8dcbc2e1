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
  enum Kind : index_t { logits, truncate, share, report, end, make, leave };
  struct Head {
    Kind kind = end;
    std::array<index_t, 4> numbers = {};
    index_t tokens = 0, segments = 0, wanted = 0;  // how many of each follow
  } head;
  std::vector<Token> tokens = {};  // or the characters of a path
  Batch batch = {};
  std::vector<index_t> wanted = {};
};

/// Rank 0 gives, the others take.
Call pass(Communicator& line, Call call = {}) {
  const auto pass_list = [&](auto& list, index_t size) {
    list.resize(size);
    if (size > 0) line.broadcast(list);
  };
  auto& [kind, numbers, tokens, segments, wanted] = call.head;
  std::tie(tokens, segments, wanted) = std::tuple(call.tokens.size(), call.batch.size(), call.wanted.size());
  line.broadcast(std::as_writable_bytes(std::span(&call.head, 1)));
  pass_list(call.tokens, tokens);
  pass_list(call.batch, segments);
  pass_list(call.wanted, wanted);
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

/// An equal part of this process's threads for every rank.
index_t threads_for(index_t rank, index_t ranks) { return std::max<index_t>(1, split(threads(), ranks)[rank].count); }

// [follow]
/// Does on this rank what the call says.
Tensor<2> perform(Communicator& line, Transformer& own, const Call& call) {
  const auto [a, b, c, d] = call.head.numbers;
  switch (call.head.kind) {
    case Call::logits: return own.logits(call.tokens, call.batch, call.wanted);
    case Call::truncate: own.truncate(a, b); break;
    case Call::share: own.share(a, b, c); break;
    case Call::report: exchange_reports(line, own); break;
    default: break;
  }
  return {};
}

/// What a rank other than 0 does.
void follow(Cut cut, const Checkpoint& checkpoint, const Limits& limits, Communicator& line,
            index_t thread_count) {
  ThreadShare share(thread_count);
  const ThreadShare::Use use(share);
  const auto own = make_rank_model(cut, checkpoint, limits, line);
  line.barrier();
  for (Call call; (call = pass(line)).head.kind != Call::end;) perform(line, *own, call);
}
// [follow]

/// Rank 0 of the job that this process belongs to; null: none.
Communicator* the_job = nullptr;
bool job_is_busy = false;

/// Rank 0's end, and the threads of the others if they are threads.
class RankGroup : public Transformer {
 public:
  RankGroup(Communicator& line, const Limits& limits)
      : line_(line), share_(threads_for(0, line.ranks())), lengths_(limits.sequences) {}
  ~RankGroup() override {
    try {
      if (!failed_) pass(line_, {{Call::end}});
    } catch (const std::exception&) {  // a rank has failed since
    }
    for (std::thread& follower : followers_) follower.join();
    if (&line_ == the_job) job_is_busy = false;
  }

  /// @param ends of ranks that are threads: they are started here
  void make(Cut cut, const Checkpoint& checkpoint, const Limits& limits, std::vector<std::unique_ptr<Communicator>> ends = {}) {
    ends_ = std::move(ends);
    for (index_t r = 1; r < ends_.size(); ++r)
      followers_.emplace_back([=, &line = *ends_[r], count = threads_for(r, ends_.size())] {
        try {
          follow(cut, checkpoint, limits, line, count);
        } catch (const std::exception& error) {
          line.abort(error.what());
        }
      });
    together([&] {
      own_ = make_rank_model(cut, checkpoint, limits, line_);
      line_.barrier();
    });
  }

  Tensor<2> logits(std::span<const Token> tokens, const Batch& batch, std::span<const index_t> wanted) override {
    if (failed_) throw Error(*failed_);
    Tensor<2> result = run({{Call::logits}, {tokens.begin(), tokens.end()}, batch, {wanted.begin(), wanted.end()}});
    for (const Segment& segment : batch) lengths_.at(segment.sequence) += segment.rows;
    return result;
  }
  index_t length(index_t sequence) const override { return lengths_.at(sequence); }
  index_t truncate(index_t sequence, index_t length) override {
    lengths_.at(sequence) = std::min(length, lengths_[sequence]);
    run({{Call::truncate, {sequence, lengths_[sequence]}}});
    return lengths_[sequence];
  }
  index_t share(index_t from, index_t to, index_t length) override {
    run({{Call::share, {from, to, length}}});
    return lengths_.at(to) = own_->length(to);  // the same on every rank that keeps all sequences; else nothing is shared
  }
  void prompt_ends(index_t) override {}  // no layer of this chapter asks
  index_t vocabulary() const override { return own_->vocabulary(); }
  /// Of all ranks together.
  StateBytes state_bytes() const override {
    StateBytes sum;
    for (const RankReport& report : reports()) sum += report.state;
    return sum;
  }
  std::vector<RankReport> reports() const {
    std::vector<RankReport> result;
    if (!failed_) together([&] {
      pass(line_, {{Call::report}});
      result = exchange_reports(line_, *own_);
    });
    return result;
  }

 private:
  /// After a failure nothing is left to be done: whoever cleans up behind an error must not meet another one.
  Tensor<2> run(Call call) {
    Tensor<2> result;
    if (!failed_) together([&] { result = perform(line_, *own_, pass(line_, std::move(call))); });
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

  std::vector<std::unique_ptr<Communicator>> ends_;  // of threads
  std::vector<std::thread> followers_;
  Communicator& line_;
  mutable ThreadShare share_;
  std::vector<index_t> lengths_;  // of every sequence, wherever it is
  std::unique_ptr<Transformer> own_;
  mutable std::optional<std::string> failed_;
};

std::unique_ptr<Transformer> on_job(Cut cut, const Checkpoint& checkpoint, const Limits& limits, Communicator& job) {
  const std::uint64_t own = fingerprint(checkpoint);
  if (std::exchange(job_is_busy, true)) throw Error("the ranks of this job run one model at a time");
  auto group = std::make_unique<RankGroup>(job, limits);
  const std::string directory = std::filesystem::absolute(checkpoint.directory()).string();
  pass(job, {{Call::make, {static_cast<index_t>(cut), limits.sequences, limits.capacity, threads_for(0, job.ranks())}},
             {directory.begin(), directory.end()}});
  require_same(job, "checkpoint", own);
  group->make(cut, checkpoint, limits);
  return group;
}

void follow_model(Communicator& job, const Call& call) {
  const auto [cut, sequences, capacity, thread_count] = call.head.numbers;
  const Checkpoint checkpoint(std::string(call.tokens.begin(), call.tokens.end()));
  require_same(job, "checkpoint", fingerprint(checkpoint));
  follow(static_cast<Cut>(cut), checkpoint, {.sequences = sequences, .capacity = capacity}, job, thread_count);
}

}  // namespace

std::unique_ptr<Transformer> make_on_ranks(Cut cut, const Checkpoint& checkpoint, const Limits& limits, const StageOptions& options) {
  const index_t asked = options.size("ranks");
  if (the_job && options.is_given("ranks") && asked != the_job->ranks())
    throw UsageError("--ranks " + std::to_string(asked) + ": this job was started with " + std::to_string(the_job->ranks()) + " ranks");
  const index_t ranks = the_job ? the_job->ranks() : asked;
  if (cut != Cut::experts) split_heads(head_sizes(attention_tensors(checkpoint, 0)), ranks);  // before anything is started
  if (the_job) return on_job(cut, checkpoint, limits, *the_job);
  std::vector<std::unique_ptr<Communicator>> ends = thread_communicators(ranks);
  auto group = std::make_unique<RankGroup>(*ends[0], limits);
  group->make(cut, checkpoint, limits, std::move(ends));
  return group;
}

std::vector<RankReport> rank_reports(const Transformer& on_ranks) { return dynamic_cast<const RankGroup&>(on_ranks).reports(); }

void join_job(Communicator& job) { the_job = &job; }

int follow_job(Communicator& job) {
  Call call;
  while ((call = pass(job)).head.kind != Call::leave) follow_model(job, call);
  return static_cast<int>(call.head.numbers[0]);
}

void leave_job(int exit_code) { pass(*the_job, {{Call::leave, {static_cast<index_t>(exit_code)}}}); }

void require_same(Communicator& line, std::string_view what, std::uint64_t own) {
  std::uint64_t first = own;
  line.broadcast(std::as_writable_bytes(std::span(&first, 1)));
  if (own != first) throw Error("rank " + std::to_string(line.rank()) + " has another " + std::string(what) + " than rank 0: all ranks need the same");
  line.barrier();
}

}  // namespace kv
