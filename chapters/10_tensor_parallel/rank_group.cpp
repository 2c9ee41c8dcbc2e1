#include "chapters/10_tensor_parallel/rank_group.hpp"

#include <atomic>
#include <thread>

#include "chapters/10_tensor_parallel/fingerprint.hpp"
#include "chapters/10_tensor_parallel/slices.hpp"
#include "chapters/10_tensor_parallel/thread_communicator.hpp"
#include "common/tensor/parallel.hpp"

namespace kv {
namespace {

/// What rank 0 tells the others to do.
struct Call {
  enum Kind : std::int64_t { logits, truncate, share, prompt_ends, report, end, make, leave };
  Kind kind;
  std::vector<std::int64_t> numbers = {};

  void add(index_t number) { numbers.push_back(static_cast<std::int64_t>(number)); }
  template <class List>
  void add_list(const List& list) {
    add(std::size(list));
    numbers.insert(numbers.end(), std::begin(list), std::end(list));
  }
};

/// Takes a call's numbers in the order in which they were added.
class Reader {
 public:
  explicit Reader(const Call& call) : next_(call.numbers.data()) {}
  index_t number() { return static_cast<index_t>(*next_++); }
  template <class T>
  std::vector<T> list() {
    std::vector<T> result(number());
    for (T& each : result) each = static_cast<T>(*next_++);
    return result;
  }

 private:
  const std::int64_t* next_;
};

void tell(Communicator& line, const Call& call) {
  std::int64_t head[2]{call.kind, static_cast<std::int64_t>(call.numbers.size())};
  std::vector<std::int64_t> numbers = call.numbers;
  line.broadcast(std::as_writable_bytes(std::span(head)));
  line.broadcast(std::as_writable_bytes(std::span(numbers)));
}

Call hear(Communicator& line) {
  std::int64_t head[2];
  line.broadcast(std::as_writable_bytes(std::span(head)));
  Call call{static_cast<Call::Kind>(head[0]), std::vector<std::int64_t>(static_cast<index_t>(head[1]))};
  line.broadcast(std::as_writable_bytes(std::span(call.numbers)));
  return call;
}

Call logits_call(std::span<const Token> tokens, const Batch& batch, std::span<const index_t> wanted) {
  Call call{Call::logits};
  call.add_list(tokens);
  call.add_list(wanted);
  call.add(batch.size());
  for (const Segment& segment : batch)
    for (const index_t number : {segment.sequence, segment.first_row, segment.rows, segment.position}) call.add(number);
  return call;
}

void run_logits(Transformer& own, Reader reader) {
  const std::vector<Token> tokens = reader.list<Token>();
  const std::vector<index_t> wanted = reader.list<index_t>();
  Batch batch(reader.number());
  for (Segment& segment : batch) {
    for (index_t* number : {&segment.sequence, &segment.first_row, &segment.rows, &segment.position}) *number = reader.number();
    segment.tokens = std::span(tokens).subspan(segment.first_row, segment.rows);
  }
  own.logits(tokens, batch, wanted);
}

/// Every rank's report, on every rank.
std::vector<RankReport> exchange_reports(Communicator& line, const Transformer& own) {
  RankReport mine{own.state_bytes(), line.sent()};
  std::vector<RankReport> reports(line.ranks());
  std::vector<Bytes> in;
  for (RankReport& report : reports) in.push_back(std::as_writable_bytes(std::span(&report, 1)));
  line.all_to_all(std::vector<ConstBytes>(line.ranks(), std::as_bytes(std::span(&mine, 1))), in);
  return reports;
}

// [follow]
/// What a rank other than 0 does.
void follow(Communicator& line, Transformer& own) {
  for (;;) {
    const Call call = hear(line);
    Reader reader(call);
    const auto next = [&] { return reader.number(); };
    switch (call.kind) {
      case Call::logits: run_logits(own, reader); break;
      case Call::truncate: { const index_t sequence = next(); own.truncate(sequence, std::min(next(), own.length(sequence))); break; }
      case Call::share: { const index_t from = next(), to = next(); own.share(from, to, next()); break; }
      case Call::prompt_ends: own.prompt_ends(next()); break;
      case Call::report: exchange_reports(line, own); break;
      default: return;
    }
  }
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
    try {
      if (!failed_) tell(line_, {Call::end});
    } catch (const std::exception&) {  // a rank has failed since
    }
    for (std::thread& follower : followers_) follower.join();
    if (&line_ == the_job) job_is_busy = false;
  }

  /// @param start starts the other ranks
  void begin(const std::function<std::unique_ptr<Transformer>()>& make_own) {
    together([&] {
      own_ = make_own();
      line_.barrier();
    });
  }

  Tensor<2> logits(std::span<const Token> tokens, const Batch& batch, std::span<const index_t> wanted) override {
    if (failed_) throw Error(*failed_);
    Tensor<2> result;
    together([&] {
      tell(line_, logits_call(tokens, batch, wanted));
      result = own_->logits(tokens, batch, wanted);
    });
    for (const Segment& segment : batch) lengths_.at(segment.sequence) += segment.rows;
    return result;
  }
  index_t length(index_t sequence) const override { return lengths_.at(sequence); }
  index_t truncate(index_t sequence, index_t length) override {
    length = std::min(length, lengths_.at(sequence));
    run({Call::truncate, {static_cast<std::int64_t>(sequence), static_cast<std::int64_t>(length)}},
        [&] { own_->truncate(sequence, std::min(length, own_->length(sequence))); });
    return lengths_[sequence] = length;
  }
  index_t share(index_t from, index_t to, index_t length) override {
    lengths_.at(to) = 0;
    Call call{Call::share};
    for (const index_t number : {from, to, length}) call.add(number);
    run(call, [&] { lengths_[to] = own_->share(from, to, length); });
    return lengths_[to];
  }
  void prompt_ends(index_t sequence) override {
    run({Call::prompt_ends, {static_cast<std::int64_t>(sequence)}}, [&] { own_->prompt_ends(sequence); });
  }
  index_t vocabulary() const override { return own_->vocabulary(); }
  /// Of all ranks together.
  StateBytes state_bytes() const override {
    StateBytes sum;
    for (const RankReport& report : reports()) sum += report.state;
    return sum;
  }
  std::vector<RankReport> reports() const {
    std::vector<RankReport> result;
    run({Call::report}, [&] { result = exchange_reports(line_, *own_); });
    return result;
  }

  std::vector<std::unique_ptr<Communicator>> ends_;  // of threads
  std::vector<std::thread> followers_;

 private:
  /// After a failure nothing is left to be done: whoever cleans up behind an error must not meet another one.
  void run(const Call& call, const std::function<void()>& own_part) const {
    if (failed_) return;
    together([&] {
      tell(line_, call);
      own_part();
    });
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
  Call call{Call::make};
  for (const index_t number : {static_cast<index_t>(cut), limits.sequences, limits.capacity, threads_for(0, job.ranks())}) call.add(number);
  call.add_list(std::filesystem::absolute(checkpoint.directory()).string());
  group->begin([&] {
    tell(job, call);
    require_same(job, "checkpoint", fingerprint(checkpoint));
    return make_rank_model(cut, checkpoint, limits, job);
  });
  return group;
}

void follow_model(Communicator& job, Reader reader) {
  const Cut cut = static_cast<Cut>(reader.number());
  const index_t sequences = reader.number(), capacity = reader.number();
  ThreadShare share(reader.number());
  const ThreadShare::Use use(share);
  const std::vector<char> directory = reader.list<char>();
  const Checkpoint checkpoint(std::filesystem::path(directory.begin(), directory.end()));
  require_same(job, "checkpoint", fingerprint(checkpoint));
  const auto own = make_rank_model(cut, checkpoint, {.sequences = sequences, .capacity = capacity}, job);
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
  for (;;) {
    const Call call = hear(job);
    Reader reader(call);
    if (call.kind == Call::leave) return static_cast<int>(reader.number());
    follow_model(job, reader);
  }
}

void leave_job(int exit_code) { tell(*the_job, {Call::leave, {exit_code}}); }

void require_same(Communicator& line, std::string_view what, std::uint64_t own) {
  std::uint64_t first = own;
  line.broadcast(std::as_writable_bytes(std::span(&first, 1)));
  if (own != first) throw Error("rank " + std::to_string(line.rank()) + " has another " + std::string(what) + " than rank 0: all ranks need the same");
  line.barrier();
}

}  // namespace kv
