/// The server with its engine and the shipped models: what a client gets is what it would get alone, whoever else is served.
#include <algorithm>
#include <thread>

#include "chapters/09_paged_cache/engine.hpp"
#include "chapters/decoders.hpp"
#include "chapters/server/service.hpp"
#include "common/model/generate.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/http_client.hpp"
#include "tests/support/temporary.hpp"

using namespace kv;
using namespace kv::test;
using namespace std::chrono_literals;

namespace {

/// A shipped model, its paged stage and the stage that has the same bits without pages.
struct Served {
  std::filesystem::path directory;
  std::string_view stage, alone;
};
const Served gqa{std::filesystem::path(KV_DATA) / "tiny-gqa", "paged", "preallocated"};
const Served mla{std::filesystem::path(KV_DATA) / "tiny-mla", "paged-absorbed", "absorbed"};

constexpr index_t capacity = 160;

/// The program `kvbook serve` without a command line.
class Server {
 public:
  explicit Server(const Served& served, index_t sequences, index_t pages)
      : checkpoint(served.directory),
        tokenizer(served.directory / "tokenizer.json"),
        engine(scheduler(checkpoint, served, sequences, pages)),
        service({.name = "model",
                 .capacity = capacity,
                 .tokenizer = tokenizer,
                 .encode_prompt = [this](std::string_view text) { return tokenizer.encode(text); },
                 .write_chat = [](const std::vector<Message>& messages) { return messages.back().content; },
                 .defaults = [this](std::optional<bool> sample) { return read_generation_config(checkpoint.directory(), sample); }},
                {.submit = [this](Request request) { return engine.submit(std::move(request)); },
                 .cancel = [this](RequestId id) { engine.cancel(id); },
                 .stats = [this] { return engine.stats(); },
                 .pages = [this] { return engine.pages(); }},
                {}),
        http(std::in_place, "127.0.0.1", 0, HttpLimits{}, &Service::failure, [this](const HttpRequest& request) { return service.refusal(request); },
             [this](std::shared_ptr<Exchange> client) { service.handle(std::move(client)); }),
        port(http->port()),
        thread([this] { http->run(); }) {}
  ~Server() {
    http->stop();
    thread.join();
    http.reset();
    engine.drain();  // its last words are for the service
  }

  static Scheduler scheduler(const Checkpoint& checkpoint, const Served& served, index_t sequences, index_t pages) {
    Stage stage = find_stage(served.stage);
    stage.options.set("page", "16");
    stage.options.set("pages", std::to_string(pages));
    const Limits limits{.sequences = sequences, .capacity = capacity};
    const std::shared_ptr<PageTable> table = make_page_table(limits, stage.options);
    return {make_decoder(checkpoint, on_table(stage, table), limits), table, {.tokens_per_step = 32}};
  }

  Checkpoint checkpoint;
  Tokenizer tokenizer;
  Engine engine;
  Service service;
  std::optional<HttpServer> http;
  unsigned short port;
  std::thread thread;
};

struct Asked {
  std::string prompt, stop;
  index_t answers, tokens;
  std::uint64_t seed;
  bool drawn, streamed, leaves;

  std::string body() const {
    JsonObject body;
    body.set("prompt", prompt).set("n", answers).set("max_tokens", tokens).set("temperature", drawn ? 0.8 : 0.0).set("seed", seed);
    if (!stop.empty()) body.set("stop", stop);
    return body.set("stream", streamed).text(-1);
  }
};

std::vector<Asked> plan(index_t requests) {
  std::mt19937 random(7);
  const auto below = [&](index_t n) { return static_cast<index_t>(random() % n); };
  static constexpr std::array words{" the", " fox", " Tom", " saw", " an", " owl", " é", " 😀", " and", " said"};
  std::vector<Asked> result;
  for (index_t i = 0; i < requests; ++i) {
    std::string prompt = below(2) == 0 ? "Once upon a time, there was a fox named Tom. Tom shared a small room with his mother." : "The";
    for (index_t n = below(20); n > 0; --n) prompt += words[below(words.size())];
    result.push_back({prompt, below(3) == 0 ? "he" : "", 1 + (below(4) == 0) * 2, 1 + below(40), i, below(2) == 0, below(2) == 0, below(6) == 0});
  }
  return result;
}

/// The answers of one request, from nothing but generate() and the plainest search for a stop string.
std::vector<std::string> alone(const Server& server, const Served& served, const Asked& asked) {
  std::vector<std::string> texts;
  for (index_t i = 0; i < asked.answers; ++i) {
    Decoder decoder = make_decoder(server.checkpoint, find_stage(served.alone), {.sequences = 1, .capacity = capacity});
    const GenerationConfig config = read_generation_config(server.checkpoint.directory(), asked.drawn);
    GenerateOptions options{.max_new_tokens = asked.tokens, .rules = config.rules, .sampling = {}, .stop = config.stop};
    if (asked.drawn) options.sampling = {0.8, config.top_k, config.top_p, config.min_p, asked.seed + i};
    const std::vector<Token> tokens = generate(decoder, {{0, server.tokenizer.encode(asked.prompt)}}, options).tokens.front();
    TextStream stream(server.tokenizer);
    std::string text;
    for (const Token token : tokens) text += stream.push(token);
    text += stream.finish();
    texts.push_back(asked.stop.empty() ? text : text.substr(0, text.find(asked.stop)));
  }
  return texts;
}

/// The texts of an answer, whole or streamed.
std::vector<std::string> texts_of(const Reply& reply, index_t answers) {
  std::vector<std::string> texts(answers);
  const auto add = [&](const std::string& json) {
    const Json choices = Json::parse(json, "reply").at("choices");
    for (index_t i = 0; i < choices.length(); ++i) texts.at(choices.at(i).at("index").size()) += choices.at(i).at("text").text();
  };
  if (!reply.body.starts_with("data: ")) add(reply.body);
  else
    for (std::size_t begin = 0, end; (end = reply.body.find("\n\n", begin)) != std::string::npos; begin = end + 2)
      if (const std::string data = reply.body.substr(begin + 6, end - begin - 6); data != "[DONE]") add(data);
  return texts;
}

double metric(const std::string& metrics, const std::string& name) {
  const std::size_t line = metrics.find("\nkvbook:" + name + " ");
  REQUIRE(line != metrics.npos);
  return std::stod(metrics.substr(line + name.size() + 9));
}

}  // namespace

TEST_CASE("32 clients at a time get what each would get alone, with and without enough pages", "[server]") {
  const Served served = GENERATE(gqa, mla);
  const index_t pages = GENERATE(16, 200);  // 16: hardly more than two sequences take; they are preempted
  CAPTURE(served.stage, pages);
  Server server(served, 8, pages);
  const std::vector<Asked> requests = plan(64);
  std::vector<Reply> replies(requests.size());
  std::atomic<index_t> next = 0;
  std::vector<std::thread> clients;
  for (int c = 0; c < 32; ++c)
    clients.emplace_back([&] {
      for (index_t i; (i = next++) < requests.size();) {
        if (!requests[i].leaves) {
          replies[i] = ask(server.port, http_post("/v1/completions", requests[i].body()));
          continue;
        }
        Connection leaving(server.port);
        leaving.send(http_post("/v1/completions", requests[i].body()));
        if (requests[i].streamed) leaving.receive(64);
      }
    });
  for (std::thread& client : clients) client.join();
  for (index_t i = 0; i < requests.size(); ++i) {
    if (requests[i].leaves) continue;
    CAPTURE(i, requests[i].body(), replies[i].body);
    REQUIRE(replies[i].status == 200);
    CHECK(texts_of(replies[i], requests[i].answers) == alone(server, served, requests[i]));
  }
  server.engine.drain();
  const SchedulerStats stats = server.engine.stats();
  CHECK(stats.pages.held == 0);
  CHECK(stats.reused_tokens > 0);
  if (pages == 16) CHECK(stats.preemptions > 0);
  const std::string metrics = ask(server.port, http_get("/metrics")).body;
  CHECK(metric(metrics, "prefix_cache_hit_rate") == Approx(stats.hit_rate()).epsilon(1e-12));
  CHECK(metric(metrics, "prefix_cache_hits_total") == static_cast<double>(stats.reused_tokens));
  CHECK(metric(metrics, "num_preemptions_total") == static_cast<double>(stats.preemptions));
  CHECK(metric(metrics, "generation_tokens_total") == static_cast<double>(stats.new_tokens));
}

TEST_CASE("the cached tokens of a second turn are those that the pages hold", "[server]") {
  Server server(gqa, 2, 40);
  const std::string text = "Once upon a time, there was a fox named Tom. Tom shared a small room with his mother.";
  const index_t length = server.tokenizer.encode(text).size();
  const auto cached = [&] {
    const Reply reply = ask(server.port, http_post("/v1/completions", JsonObject().set("prompt", text).set("max_tokens", index_t{4}).text(-1)));
    REQUIRE(reply.status == 200);
    return Json::parse(reply.body, "reply").at("usage").at("prompt_tokens_details").at("cached_tokens").size();
  };
  CHECK(cached() == 0);
  CHECK(cached() == (length - 1) / 16 * 16);
}

TEST_CASE("a client that leaves gives its pages back, streamed or not", "[server]") {
  const bool streamed = GENERATE(false, true);
  Server server(gqa, 4, 60);
  const std::string body = std::string(R"({"prompt":"Once upon a time","max_tokens":150,"ignore_eos":true,"n":4,"stream":)") + (streamed ? "true}" : "false}");
  std::uint64_t fewest = 150;  // steps after a client has left; all of the answer are 150
  for (int i = 0; i < 5; ++i) {
    Connection leaving(server.port);
    leaving.send(http_post("/v1/completions", body));
    while (server.engine.stats().running < 4) std::this_thread::sleep_for(1ms);
    CHECK(server.engine.stats().pages.held > 0);
    const std::uint64_t before = server.engine.stats().steps;
    leaving.close();
    while (server.engine.stats().pages.held > 0) std::this_thread::yield();
    const std::uint64_t steps = server.engine.stats().steps - before;
    CHECK(steps < 140);
    fewest = std::min(fewest, steps);
  }
  CHECK(fewest < 20);  // what the system takes to tell of it is counted too, and is longer where others compute
}
