/// Chapter 9, requests: what each one gets are the tokens of its run alone, whatever else is served, found, forked or preempted.
#include <atomic>
#include <map>
#include <mutex>
#include <random>
#include <thread>

#include "chapters/09_paged_cache/engine.hpp"
#include "common/files/error.hpp"
#include "common/model/generate.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/decoders.hpp"
#include "tests/support/random.hpp"

using namespace kv;
using namespace kv::test;

namespace {

Checkpoint shipped(const char* model) { return Checkpoint(std::filesystem::path(KV_DATA) / model); }

/// What a scheduler is made of, small enough that pages run out.
struct Setting {
  index_t places = 4, capacity = 64;
  const char* page = "4";
  const char* pages = "40";
  SchedulerOptions options = {};
};

Scheduler scheduler_of(const Checkpoint& checkpoint, const Setting& setting, std::shared_ptr<PageTable>* kept = nullptr) {
  Stage stage = find_stage(family(checkpoint.config()) == Family::mla ? "paged-absorbed" : "paged");
  stage.options.set("page", setting.page);
  stage.options.set("pages", setting.pages);
  const Limits limits{.sequences = setting.places, .capacity = setting.capacity};
  const auto table = make_page_table(limits, stage.options);
  if (kept) *kept = table;
  return {make_decoder(checkpoint, on_table(stage, table), limits), table, setting.options};
}

/// What a request says on its own, answer by answer, from a stage of an earlier chapter.
class Alone {
 public:
  explicit Alone(const Checkpoint& checkpoint)
      : decoder_(make_decoder(checkpoint, find_stage(family(checkpoint.config()) == Family::mla ? "absorbed" : "preallocated"),
                              {.sequences = 1, .capacity = 256})) {}
  std::vector<Token> operator()(const Request& request, index_t answer = 0) {
    decoder_.truncate(0, 0);
    GenerateOptions options{.max_new_tokens = request.max_new_tokens, .rules = request.rules, .sampling = request.sampling,
                            .stop = request.stop};
    options.sampling.seed += answer;
    return generate(decoder_, {{0, request.prompt}}, options).tokens.front();
  }

 private:
  Decoder decoder_;
};

/// Collects what the clients hear. Every answer hears of its end once.
struct Heard {
  std::map<std::pair<RequestId, index_t>, std::vector<Token>> tokens;
  std::map<std::pair<RequestId, index_t>, EndedAnswer> ends;

  Request listening(Request request) {
    request.on_token = [this](const DrawnToken& drawn) {
      tokens[{drawn.request, drawn.answer}].push_back(drawn.token);
      return true;
    };
    request.on_end = [this](const EndedAnswer& ended) {
      CHECK(ends.emplace(std::pair(ended.request, ended.answer), ended).second);
    };
    return request;
  }
};

void run_to_the_end(Scheduler& scheduler) {
  for (int steps = 0; scheduler.step(); ++steps) REQUIRE(steps < 20000);
}

Request random_request(std::mt19937& random, index_t vocabulary) {
  // Few first tokens, so that prompts share pages.
  std::vector<Token> prompt = random_tokens(4 + random() % 16, vocabulary, 1 + random() % 3);
  const std::vector<Token> own = random_tokens(1 + random() % 8, vocabulary, random());
  prompt.insert(prompt.end(), own.begin(), own.end());
  Request request{.prompt = std::move(prompt), .answers = 1 + random() % 5 / 3, .max_new_tokens = 1 + random() % 14};
  request.sampling = {.temperature = random() % 2 ? 1.0 : 0.0, .top_k = 20, .seed = random() % 100};
  request.stop = {static_cast<Token>(random() % vocabulary)};
  return request;
}

}  // namespace

TEST_CASE("200 requests, some of them cancelled: each gets what it gets alone", "[scheduler]") {
  const Policy policy = GENERATE(as<Policy>(), continuous_batching, whole_prompts, static_batching);
  const bool reuse = GENERATE(true, false);
  const SmallCheckpoint files;
  std::shared_ptr<PageTable> table;
  Scheduler scheduler = scheduler_of(files.open(), {.pages = "16", .options = {.tokens_per_step = 9, .reuse = reuse, .policy = policy}}, &table);
  Alone alone(files.open());
  Heard heard;
  std::mt19937 random(5);
  std::map<RequestId, Request> requests;
  std::map<RequestId, bool> cancelled;
  for (RequestId id = 1; id <= 200;) {
    if (random() % 3 == 0) {
      requests[id] = random_request(random, 61);
      scheduler.submit(id, heard.listening(requests[id]));
      ++id;
    }
    if (random() % 6 == 0 && id > 1) {
      const RequestId gone = id - 1 - random() % std::min<RequestId>(3, id - 1);  // one of the latest
      scheduler.cancel(gone);
      cancelled[gone] = true;
    }
    scheduler.step();
    REQUIRE(table->usage().wasted_rows() < 4 * 4);  // less than a page for each place
  }
  run_to_the_end(scheduler);
  index_t cut_short = 0, preempted = 0;
  for (const auto& [id, request] : requests)
    for (index_t answer = 0; answer < request.answers; ++answer) {
      CAPTURE(id, answer);
      const std::vector<Token> expected = alone(request, answer), &found = heard.tokens[{id, answer}];
      REQUIRE(heard.ends.contains({id, answer}));
      const EndedAnswer& end = heard.ends.at({id, answer});
      CHECK(end.new_tokens == found.size());
      preempted += end.preemptions;
      if (end.finish == Finish::cancelled) {
        CHECK(cancelled[id]);
        CHECK(found == part(expected, 0, found.size()));
        ++cut_short;
      } else {
        CHECK(found == expected);
      }
    }
  CHECK(cut_short > 3);
  const SchedulerStats stats = scheduler.stats();
  CHECK(stats.pages.held == 0);
  CHECK((stats.reused_tokens > 0) == reuse);
  CHECK(stats.requests == 200);
  CHECK(stats.waiting + stats.running == 0);
  CHECK(preempted > 0);
}

TEST_CASE("preempted before every step in turn, and computed again: the same tokens, both families", "[scheduler]") {
  const char* const model = GENERATE("tiny-gqa", "tiny-mla");
  const Checkpoint checkpoint = shipped(model);
  Request request{.prompt = random_tokens(11, 512, 3), .max_new_tokens = 9};
  request.sampling = {.temperature = 0.9, .seed = 4};
  const std::vector<Token> expected = Alone(checkpoint)(request);
  // Pages for one alone: when the earlier request begins, the later one must go, after `step` steps of its own.
  std::uint64_t preemptions = 0;
  for (index_t step = 0; step < 12; ++step) {
    CAPTURE(model, step);
    Policy late_start = [step, calls = index_t{0}](std::span<const Candidate> candidates, const StepBudget& budget) mutable {
      std::vector<index_t> given(candidates.size(), 0);
      const bool first_waits = calls++ < step && candidates.size() > 1;
      for (index_t i = first_waits ? 1 : 0; i < candidates.size(); ++i)
        given[i] = std::min<index_t>(candidates[i].pending, i == 0 ? budget.tokens : 4);
      return given;
    };
    Scheduler scheduler = scheduler_of(checkpoint, {.places = 2, .capacity = 20, .pages = "5",
                                                    .options = {.tokens_per_step = 30, .policy = late_start}});
    Heard heard;
    scheduler.submit(1, heard.listening({.prompt = random_tokens(12, 512, 8), .max_new_tokens = 8}));
    scheduler.submit(2, heard.listening(request));
    run_to_the_end(scheduler);
    CHECK(heard.tokens[{2, 0}] == expected);
    preemptions += heard.ends.at({2, 0}).preemptions;
    CHECK(heard.ends.at({1, 0}).preemptions == 0);  // the earliest is never the one that goes
    CHECK(scheduler.stats().prompt_tokens == 12 + 11);  // who comes back is not counted again
    CHECK(scheduler.stats().reused_tokens == 0);
  }
  CHECK(preemptions >= 10);
}

TEST_CASE("hit and miss give the same tokens, and what is reused is what was counted", "[scheduler]") {
  const char* const model = GENERATE("tiny-gqa", "tiny-mla");
  const char* const page = GENERATE("16", "64", "128");
  const Checkpoint checkpoint = shipped(model);
  Scheduler scheduler = scheduler_of(checkpoint, {.places = 2, .capacity = 256, .page = page, .pages = "40"});
  Alone alone(checkpoint);
  const index_t rows = scheduler.stats().pages.page_rows;
  for (const index_t length : {index_t{128}, index_t{129}, index_t{200}}) {  // whole pages, one token more, and any
    CAPTURE(model, page, length);
    Request request{.prompt = random_tokens(length, 512, 7), .max_new_tokens = 5};
    const std::vector<Token> expected = alone(request);
    for (int time = 0; time < 2; ++time) {
      Heard heard;
      const RequestId id = scheduler.stats().requests + 1;
      scheduler.submit(id, heard.listening(request));
      run_to_the_end(scheduler);
      CHECK(heard.tokens[{id, 0}] == expected);
      if (time == 1) CHECK(heard.ends.at({id, 0}).reused_tokens == (length - 1) / rows * rows);
    }
  }
}

TEST_CASE("n answers: the prompt is computed once, answer i draws with seed + i", "[scheduler]") {
  const index_t places = GENERATE(2, 6);
  const Checkpoint checkpoint = shipped("tiny-gqa");
  Scheduler scheduler = scheduler_of(checkpoint, {.places = places});
  Request request{.prompt = random_tokens(22, 512, 9), .answers = 5, .max_new_tokens = 6};
  request.sampling = {.temperature = 1.3, .seed = 40};
  Heard heard;
  scheduler.submit(1, heard.listening(request));
  run_to_the_end(scheduler);
  Alone alone(checkpoint);
  for (index_t answer = 0; answer < 5; ++answer) CHECK(heard.tokens[{1, answer}] == alone(request, answer));
  CHECK(heard.tokens[{1, 0}] != heard.tokens[{1, 1}]);
  const SchedulerStats stats = scheduler.stats();
  CHECK(stats.prompt_tokens == 22);
  if (places == 6) CHECK(stats.fed_tokens == 22 + 5 * 5);  // the last token of an answer is not fed
}

TEST_CASE("two prompts that would each take more than half of the pages do not wait for each other for ever", "[scheduler]") {
  const SmallCheckpoint files;
  const Policy careless = [](std::span<const Candidate> candidates, const StepBudget&) {
    std::vector<index_t> given;
    for (const Candidate& candidate : candidates) given.push_back(std::min<index_t>(candidate.pending, 2));
    return given;  // admits both and feeds both, whatever there is
  };
  Scheduler scheduler = scheduler_of(files.open(), {.places = 2, .capacity = 40, .pages = "10", .options = {.policy = careless}});
  Heard heard;
  const Request a{.prompt = random_tokens(30, 61, 1), .max_new_tokens = 5}, b{.prompt = random_tokens(30, 61, 2), .max_new_tokens = 5};
  scheduler.submit(1, heard.listening(a));
  scheduler.submit(2, heard.listening(b));
  run_to_the_end(scheduler);
  Alone alone(files.open());
  CHECK(heard.tokens[{1, 0}] == alone(a));
  CHECK(heard.tokens[{2, 0}] == alone(b));
  CHECK(scheduler.stats().preemptions > 0);
}

TEST_CASE("a policy that gives nobody anything does not stop the service", "[scheduler]") {
  const SmallCheckpoint files;
  const Policy nobody = [](std::span<const Candidate> candidates, const StepBudget&) { return std::vector<index_t>(candidates.size(), 0); };
  Scheduler scheduler = scheduler_of(files.open(), {.options = {.policy = nobody}});
  Heard heard;
  scheduler.submit(1, heard.listening({.prompt = {1, 2, 3}, .max_new_tokens = 4}));
  scheduler.submit(2, heard.listening({.prompt = {4}, .max_new_tokens = 2}));
  run_to_the_end(scheduler);
  CHECK(heard.ends.size() == 2);
}

TEST_CASE("prompts in chunks do not delay those who decode; new ones come in order", "[policy]") {
  const std::vector<Candidate> candidates{{true, 50, 3}, {true, 1, 0}, {false, 20, 9}, {false, 1, 1}, {true, 1, 1}};
  CHECK(continuous_batching(candidates, {.tokens = 12, .places = 4, .pages = 30}) == std::vector<index_t>{10, 1, 0, 0, 1});
  CHECK(continuous_batching(candidates, {.tokens = 60, .places = 4, .pages = 30}) == std::vector<index_t>{50, 1, 8, 0, 1});
  CHECK(continuous_batching(candidates, {.tokens = 90, .places = 4, .pages = 12}) == std::vector<index_t>{50, 1, 0, 0, 1});
  CHECK(continuous_batching(candidates, {.tokens = 90, .places = 4, .pages = 14}) == std::vector<index_t>{50, 1, 20, 1, 1});
  CHECK(continuous_batching(candidates, {.tokens = 90, .places = 1, .pages = 30}) == std::vector<index_t>{50, 1, 20, 0, 1});
  CHECK(static_batching(candidates, {.tokens = 90, .places = 4, .pages = 30}) == std::vector<index_t>{50, 1, 0, 0, 1});
}

TEST_CASE("a request that could never be served is refused, and an answer that fails fails alone", "[scheduler]") {
  const SmallCheckpoint files;
  Scheduler scheduler = scheduler_of(files.open(), {.capacity = 64, .pages = "16"});
  const auto error = [&](const Request& request) { return error_of([&] { scheduler.submit(1, request); }); };
  CHECK(holds(error({.prompt = {}}), "the prompt is empty"));
  CHECK(holds(error({.prompt = {61}}), "token id 61 is outside the vocabulary of 61"));
  CHECK(holds(error({.prompt = {1}, .answers = 0}), "at least one answer"));
  CHECK(holds(error({.prompt = random_tokens(60, 61, 1), .max_new_tokens = 6}), "do not fit the 64"));
  CHECK(holds(error({.prompt = {1}, .sampling = {.temperature = -1.0}}), "temperature"));
  CHECK(scheduler.idle());
  Heard heard;
  Request fails = heard.listening({.prompt = {1, 2}, .max_new_tokens = 3});
  fails.on_token = [](const DrawnToken&) -> bool { throw Error("the client's own"); };
  scheduler.submit(1, fails);
  scheduler.submit(2, heard.listening({.prompt = {1, 2}, .max_new_tokens = 3}));
  run_to_the_end(scheduler);
  CHECK(heard.ends.at({1, 0}).finish == Finish::failed);
  CHECK(heard.ends.at({1, 0}).error == "the client's own");
  CHECK(heard.ends.at({2, 0}).finish == Finish::length);
  CHECK(scheduler.stats().pages.held == 0);
}

TEST_CASE("a client that leaves frees its pages within one step", "[scheduler]") {
  const SmallCheckpoint files;
  Scheduler scheduler = scheduler_of(files.open(), {.options = {.reuse = false}});
  Heard heard;
  Request leaves = heard.listening({.prompt = {1, 2, 3}, .max_new_tokens = 30});
  index_t count = 0;
  leaves.on_token = [&](const DrawnToken&) { return ++count < 3; };
  scheduler.submit(1, leaves);
  scheduler.step();
  scheduler.step();
  CHECK(scheduler.stats().pages.held == 1);
  scheduler.step();
  CHECK(scheduler.stats().pages.held == 0);
  CHECK(heard.ends.at({1, 0}).finish == Finish::cancelled);
  scheduler.submit(2, heard.listening({.prompt = {1}, .answers = 3}));
  scheduler.cancel(2);
  for (index_t answer = 0; answer < 3; ++answer) CHECK(heard.ends.at({2, answer}).finish == Finish::cancelled);
}

TEST_CASE("5,000 requests leave the pool as large and as empty as one", "[scheduler]") {
  const SmallCheckpoint files({.layers = 1});
  std::shared_ptr<PageTable> table;
  Scheduler scheduler = scheduler_of(files.open(), {.places = 8, .pages = "64", .options = {.tokens_per_step = 64}}, &table);
  std::mt19937 random(6);
  index_t most = 0;
  for (RequestId id = 1; id <= 5000; ++id) {
    Request request = random_request(random, 61);
    request.max_new_tokens = 3;
    scheduler.submit(id, std::move(request));
    scheduler.step();
    most = std::max(most, scheduler.stats().pages.held);
  }
  run_to_the_end(scheduler);
  const PoolUsage usage = scheduler.stats().pages;
  CHECK(usage.pages == 64);
  CHECK(usage.held == 0);
  CHECK(usage.free + usage.kept == 64);
  CHECK(table->available() == 64);
  CHECK(most <= 64);
}

TEST_CASE("an engine: many threads submit and cancel, each request gets what it gets alone", "[engine]") {
  const SmallCheckpoint files;
  Engine engine(scheduler_of(files.open(), {.places = 4, .pages = "30", .options = {.tokens_per_step = 16}}));
  constexpr int clients = 4, each = 12;
  std::mutex mutex;
  std::vector<std::pair<Request, std::vector<Token>>> finished;
  std::atomic<int> ended = 0, wrong = 0;
  std::vector<std::thread> threads;
  for (int client = 0; client < clients; ++client)
    threads.emplace_back([&, client] {
      std::mt19937 random(static_cast<unsigned>(70 + client));
      for (int i = 0; i < each; ++i) {
        Request request = random_request(random, 61);
        request.answers = 1;
        auto tokens = std::make_shared<std::vector<Token>>();
        Request listening = request;
        listening.on_token = [=](const DrawnToken& drawn) {
          tokens->push_back(drawn.token);
          return true;
        };
        listening.on_end = [&, request, tokens](const EndedAnswer& end) {
          const std::lock_guard lock(mutex);
          if (end.finish != Finish::cancelled) finished.emplace_back(request, *tokens);
          ++ended;
        };
        const RequestId id = engine.submit(std::move(listening));
        if (random() % 6 == 0) engine.cancel(id);
        if (random() % 4 == 0) engine.stats();
        if (random() % 8 == 0) wrong += engine.pages().size() != 30;
      }
    });
  for (std::thread& thread : threads) thread.join();
  engine.drain();
  CHECK(ended == clients * each);
  CHECK(wrong == 0);
  CHECK(engine.stats().pages.held == 0);
  Alone alone(files.open());
  CHECK(finished.size() > 20);
  for (const auto& [request, tokens] : finished) CHECK(tokens == alone(request));
}

TEST_CASE("an engine that ends tells everybody", "[engine]") {
  const SmallCheckpoint files;
  std::atomic<int> cancelled = 0;
  {
    Engine engine(scheduler_of(files.open(), {}));
    for (int i = 0; i < 6; ++i) {
      Request request{.prompt = {1, 2, 3}, .max_new_tokens = 60};
      request.on_token = [](const DrawnToken&) {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        return true;
      };
      request.on_end = [&](const EndedAnswer& end) { cancelled += end.finish == Finish::cancelled; };
      engine.submit(std::move(request));
    }
    CHECK_THROWS_AS(engine.submit({.prompt = {}}), Error);
  }
  CHECK(cancelled == 6);
}
