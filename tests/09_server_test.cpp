/// The server against a scripted engine: what is said on the wire, what hostile clients cost, and what becomes of answers
/// whose clients have left.
#include "chapters/server/service.hpp"

#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <list>
#include <thread>

#include "common/text/byte_alphabet.hpp"
#include "common/text/utf8.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/http_client.hpp"
#include "tests/support/temporary.hpp"

using namespace kv;
using namespace kv::test;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

namespace {

const Tokenizer& tokenizer() {
  static const Tokenizer shipped(std::filesystem::path(KV_DATA) / "tiny-gqa" / "tokenizer.json");
  return shipped;
}

/// Waits for something that another thread brings about.
template <class Condition>
bool comes_true(Condition condition, std::chrono::milliseconds time = 5000ms) {
  for (const auto end = Clock::now() + time; Clock::now() < end; std::this_thread::sleep_for(1ms))
    if (condition()) return true;
  return false;
}

/// Steps as an engine does, in a thread of its own; every answer is its prompt over and over. Holds a page for each answer.
class ScriptedEngine {
 public:
  explicit ScriptedEngine(std::chrono::microseconds step = 200us) : step_(step), thread_([this] { run(); }) {}
  ~ScriptedEngine() { end(); }

  /// Tells everybody that it ends, and does.
  void end() {
    {
      const std::lock_guard lock(mutex_);
      ends_ = true;
    }
    changed_.notify_all();
    if (thread_.joinable()) thread_.join();
  }

  RequestId submit(Request request) {
    for (const Token token : request.prompt)
      if (token >= static_cast<Token>(tokenizer().size())) throw Error("token " + std::to_string(token) + " is outside the vocabulary");
    Sampler{request.sampling};
    const std::lock_guard lock(mutex_);
    stats_.prompt_tokens += request.prompt.size();
    const auto shared = std::make_shared<Request>(std::move(request));
    for (index_t i = 0; i < shared->answers; ++i) new_.push_back({shared, next_, i});
    changed_.notify_all();
    return next_++;
  }
  void cancel(RequestId id) {
    const std::lock_guard lock(mutex_);
    cancelled_.push_back(id);
    changed_.notify_all();
  }
  SchedulerStats stats() {
    const std::lock_guard lock(mutex_);
    SchedulerStats stats = stats_;
    stats.pages = {.pages = 8, .free = 8 - std::min<index_t>(stats.running, 8), .kept = 0, .held = std::min<index_t>(stats.running, 8), .page_rows = 16};
    return stats;
  }
  std::vector<PageView> pages() { return {{{}, false, {}}, {{}, true, {}}, {{0}, false, {3}}, {{0, 1}, true, {3, 4}}}; }

  /// While it is stopped, nothing is stepped.
  void stop() { paused_ = true; }
  void go() {
    const std::lock_guard lock(mutex_);
    paused_ = false;
    changed_.notify_all();
  }
  index_t running() { return stats().running; }
  /// Requests' answers that no step has seen.
  index_t waiting() {
    const std::lock_guard lock(mutex_);
    return new_.size();
  }
  std::uint64_t steps() { return stats().steps; }

  Backend backend() {
    return {[this](Request request) { return submit(std::move(request)); }, [this](RequestId id) { cancel(id); },
            [this] { return stats(); }, [this] { return pages(); }};
  }

  static std::vector<float> logits() {
    std::vector<float> logits(tokenizer().size());
    for (index_t v = 0; v < logits.size(); ++v) logits[v] = static_cast<float>(v * 7919 % 1000) / 100.0f;
    return logits;
  }

 private:
  struct Answer {
    std::shared_ptr<Request> request;
    RequestId id;
    index_t number;
    index_t drawn = 0;
  };

  void tell_end(const Answer& answer, Finish finish, const std::string& error = "") {
    answer.request->on_end({answer.id, answer.number, finish, error, answer.request->prompt.size(), 0, answer.drawn, 0});
  }

  /// @return whether the answer goes on
  bool draw(Answer& answer) {
    static const std::vector<float> all = logits();
    const Request& request = *answer.request;
    const Token token = request.prompt[answer.drawn % request.prompt.size()];
    ++answer.drawn;
    if (token == 0) return tell_end(answer, Finish::failed, "the script says so"), false;
    if (!request.on_token({answer.id, answer.number, token, all})) return tell_end(answer, Finish::cancelled), false;
    if (std::ranges::find(request.stop, token) != request.stop.end()) return tell_end(answer, Finish::stop), false;
    if (answer.drawn == request.max_new_tokens) return tell_end(answer, Finish::length), false;
    return true;
  }

  void run() {
    std::list<Answer> answers;
    for (;;) {
      {
        std::unique_lock lock(mutex_);
        stats_.running = answers.size();
        changed_.wait(lock, [&] { return ends_ || !cancelled_.empty() || (!paused_ && (!new_.empty() || !answers.empty())); });
        if (ends_) break;
        answers.splice(answers.end(), new_);
        const std::vector<RequestId> cancelled = std::exchange(cancelled_, {});
        lock.unlock();
        std::erase_if(answers, [&](const Answer& answer) {
          const bool hit = std::ranges::find(cancelled, answer.id) != cancelled.end();
          if (hit) tell_end(answer, Finish::cancelled);
          return hit;
        });
        lock.lock();
        stats_.running = answers.size();
        if (paused_) continue;
        ++stats_.steps;
      }
      if (step_ > 0us) std::this_thread::sleep_for(step_);
      std::erase_if(answers, [&](Answer& answer) { return !draw(answer); });
    }
    for (const Answer& answer : answers) tell_end(answer, Finish::cancelled);
  }

  std::chrono::microseconds step_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::list<Answer> new_;
  std::vector<RequestId> cancelled_;
  SchedulerStats stats_;
  RequestId next_ = 1;
  std::atomic<bool> paused_ = false;
  bool ends_ = false;
  std::thread thread_;
};

/// A server on a port of its own, with little patience.
class Running {
 public:
  explicit Running(ServiceLimits limits = {}, HttpLimits http = quick(), std::chrono::microseconds step = 200us)
      : engine(step),
        service({.name = "script",
                 .capacity = 30000,
                 .tokenizer = tokenizer(),
                 .encode_prompt = [](std::string_view text) { return tokenizer().encode(text); },
                 .write_chat = [](const std::vector<Message>& messages) {
                   std::string text;
                   for (const Message& message : messages) {
                     if (message.role != "user" && message.role != "assistant") throw Error("only the roles user and assistant are known");
                     text += message.content;
                   }
                   return text;
                 },
                 .defaults = [](std::optional<bool> sample) {
                   GenerationConfig config;
                   config.stop = {2};
                   config.sample = sample.value_or(false);
                   return config;
                 }},
                engine.backend(), std::move(limits)),
        http(std::in_place, "127.0.0.1", 0, http, &Service::failure, [this](const HttpRequest& request) { return service.refusal(request); },
             [this](std::shared_ptr<Exchange> client) { service.handle(std::move(client)); }),
        port(this->http->port()),
        thread([this] { this->http->run(); }) {}
  ~Running() {
    http->stop();
    http->stop();
    if (thread.joinable()) thread.join();
    http.reset();
    engine.end();  // its last words are for the service
  }

  static HttpLimits quick() { return {.header_time = 1000ms, .body_time = 1000ms, .write_time = 2000ms}; }

  Reply post(std::string_view path, std::string_view body) const { return ask(port, http_post(path, body)); }
  Json complete(std::string_view body) const {
    const Reply reply = post("/v1/completions", body);
    CAPTURE(reply.body);
    REQUIRE(reply.status == 200);
    return Json::parse(reply.body, "reply");
  }
  Json chat(std::string_view body) const {
    const Reply reply = post("/v1/chat/completions", body);
    CAPTURE(reply.body);
    REQUIRE(reply.status == 200);
    return Json::parse(reply.body, "reply");
  }

  /// Waits until nobody is served.
  bool rests_within(std::chrono::milliseconds time) {
    return comes_true([&] { return engine.running() == 0; }, time);
  }

  ScriptedEngine engine;
  Service service;
  std::optional<HttpServer> http;
  unsigned short port;
  std::thread thread;
};

std::string text_of(const Json& reply, index_t choice = 0) { return reply.at("choices").at(choice).at("text").text(); }

/// The data of every event.
std::vector<std::string> events(std::string_view stream) {
  std::vector<std::string> result;
  for (std::size_t end; (end = stream.find("\n\n")) != stream.npos; stream.remove_prefix(end + 2)) {
    REQUIRE(stream.starts_with("data: "));
    result.emplace_back(stream.substr(6, end - 6));
  }
  CHECK(stream == "");
  return result;
}

/// JSON text of a string.
std::string json_text(std::string_view text) {
  const std::string object = JsonObject().set("t", text).text(-1);
  return object.substr(5, object.size() - 6);
}

/// A request for a completion, after which the connection stays.
std::string kept_post(const std::string& body) {
  return "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: " +
         std::to_string(body.size()) + "\r\n\r\n" + body;
}

std::string error_of(const Reply& reply) {
  const Json error = Json::parse(reply.body, "reply").at("error");
  return std::to_string(reply.status) + " " + error.at("code").text() + ": " + error.at("message").text();
}

StopStrings stops(const std::vector<std::string>& texts) {
  return std::make_shared<const std::vector<StopString>>(texts.begin(), texts.end());
}

/// The text up to the stop string that is complete first, of several the longest, looked for in the plainest way.
std::string cut_plainly(const std::string& text, const std::vector<std::string>& stops) {
  for (std::size_t end = 1; end <= text.size(); ++end) {
    std::size_t longest = 0;
    for (const std::string& stop : stops)
      if (text.substr(0, end).ends_with(stop)) longest = std::max(longest, stop.size());
    if (longest > 0) return text.substr(0, end - longest);
  }
  return text;
}

}  // namespace

TEST_CASE("a stop string is found across the borders of tokens, and nothing of it gets out", "[server]") {
  std::mt19937 random(1);
  const auto below = [&](index_t n) { return static_cast<index_t>(random() % n); };
  const auto text = [&](index_t most) {
    std::string result;
    for (index_t i = 1 + below(most); i > 0; --i) result += std::array{"a", "b", "a", "é", "😀"}[below(5)];
    return result;
  };
  index_t stopped = 0;
  for (int i = 0; i < 3000; ++i) {
    std::vector<std::string> looked_for;
    for (index_t k = below(3) + 1; k > 0; --k) looked_for.push_back(text(4));
    const std::string whole = text(30), expected = cut_plainly(whole, looked_for);
    AnswerText answer(tokenizer(), stops(looked_for));
    std::string got;
    // One byte a token: as many borders as there can be, also within characters.
    for (const char byte : whole) {
      const Token token = tokenizer().find(to_byte_alphabet({&byte, 1})).value();
      const std::string piece = answer.push(token);
      CHECK(is_utf8(piece));
      got += piece;
      CHECK(expected.starts_with(got));
    }
    stopped += answer.stopped();
    got += answer.finish();
    CAPTURE(whole, looked_for);
    CHECK(got == expected);
    CHECK(answer.stopped() == (expected != whole || cut_plainly(whole + "|", looked_for) != whole + "|"));
  }
  CHECK(stopped > 500);
}

TEST_CASE("what may begin a stop string waits, and comes when it does not", "[server]") {
  AnswerText answer(tokenizer(), stops({"abab!"}));
  std::string got;
  for (const char* piece : {"x", "a", "b", "a", "b"})
    for (const Token token : tokenizer().encode(piece)) got += answer.push(token);
  CHECK(got == "x");
  for (const Token token : tokenizer().encode("a")) got += answer.push(token);
  CHECK(got == "xab");  // "aba" may still go on
  CHECK(answer.finish() == "aba");
}

TEST_CASE("a stop string of 10,000 tokens costs no more for each byte than a short one", "[server]") {
  std::string stop;
  for (int i = 0; i < 10000; ++i) stop += i % 100 == 99 ? " fox" : " the";
  REQUIRE(tokenizer().encode(stop).size() >= 10000);
  const std::vector<Token> tokens = tokenizer().encode(" begin" + stop + " end");
  AnswerText answer(tokenizer(), stops({stop}));
  std::string got;
  for (const Token token : tokens) got += answer.push(token);
  CHECK(got == " begin");
  CHECK(answer.stopped());
}

TEST_CASE("every field of a request is understood, harmless or refused by name", "[server]") {
  const auto error = [](Api api, const std::string& fields) {
    const std::string needed = api == Api::chat ? R"("messages":[{"role":"user","content":"a"}])" : R"("prompt":"a")";
    return error_of([&] { parse_completion_request(api, "{" + needed + (fields.empty() ? "" : ",") + fields + "}"); });
  };
  for (const Api api : {Api::completions, Api::chat}) {
    CHECK(error(api, "") == "no error");
    CHECK(error(api, R"("user":"me","metadata":{"a":"b"},"store":true,"seed":-3,"stop":null,"logit_bias":{},"n":1)") == "no error");
    CHECK(error(api, R"("frequency_penalty":0,"presence_penalty":0.0,"response_format":{"type":"text"})") == "no error");
    CHECK(error(api, R"("frequency_penalty":0.5)") == "the request: frequency_penalty is not supported");
    CHECK(error(api, R"("logit_bias":{"5":1})") == "the request: logit_bias is not supported");
    CHECK(error(api, R"("response_format":{"type":"json_object"})") == "the request: response_format is not supported");
    CHECK(error(api, R"("temprature":1)") == "the request: temprature is a field that this server does not know");
    CHECK(error(api, R"("n":0)") == "the request: n is 0, expected 1 to 128");
    CHECK(error(api, R"("n":129)") == "the request: n is 129, expected 1 to 128");
    CHECK(error(api, R"("n":1.5)") == "the request: n is a fraction, expected a whole number");
    CHECK(error(api, R"("temperature":"hot")") == "the request: temperature is text, expected a number");
    CHECK(error(api, R"("stop":[""])") == "the request: stop holds an empty text");
    CHECK(error(api, R"("stop":["a",1])") == "the request: stop[1] is a whole number, expected text");
    CHECK(error(api, R"("max_tokens":0)") == "the request: max_tokens is 0, expected at least 1");
    CHECK(error(api, R"("max_tokens":-1)") == "the request: max_tokens is negative: -1");
    CHECK(error(api, R"("seed":1,"seed":2)") == R"(the request: is not accepted: the key "seed" appears twice in one object)");
    CHECK(error(api, R"("stream":true,"stream_options":{"include_usage":true,"more":1})") == "the request: stream_options.more is not supported");
    CHECK(error(api, R"("stream_options":{"include_usage":true})") == "the request: stream_options without stream");
  }
  CHECK(error(Api::chat, R"("tools":[{"type":"function"}])") == "the request: tools is not supported");
  CHECK(error(Api::chat, R"("prompt":"a")") == "the request: prompt is a field that this server does not know");
  CHECK(error(Api::chat, R"("top_logprobs":3)") == "the request: top_logprobs asks for logprobs to be true");
  CHECK(error(Api::chat, R"("max_tokens":3,"max_completion_tokens":4)") == "the request: max_completion_tokens is not what the same field's older name says");
  CHECK(error(Api::completions, R"("echo":true)") == "the request: echo is not supported");
  CHECK(error(Api::completions, R"("best_of":2)") == "the request: best_of is not supported");
  CHECK(error(Api::completions, R"("logprobs":21)") == "the request: logprobs is 21, expected 0 to 20");

  const auto body_error = [](Api api, const std::string& body) { return error_of([&] { parse_completion_request(api, body); }); };
  CHECK(body_error(Api::completions, "{}") == "the request: prompt is missing");
  CHECK(body_error(Api::completions, "[]") == "the request: is a list, expected an object");
  CHECK(holds(body_error(Api::completions, ""), "the request: is not valid JSON"));
  CHECK(holds(body_error(Api::completions, "{\"prompt\":\"\xff\"}"), "the request: is not valid JSON"));
  CHECK(holds(body_error(Api::completions, R"({"prompt":"\ud800"})"), "the request: is not valid JSON"));
  CHECK(body_error(Api::completions, R"({"prompt":[]})") == "no error");  // refused when it is seen to have no tokens
  CHECK(body_error(Api::completions, R"({"prompt":[1,"a"]})") == "the request: prompt[1] is text, expected a number");
  CHECK(body_error(Api::completions, R"({"prompt":["a","b"],"n":65})") == "the request: asks for more than 128 answers");
  CHECK(body_error(Api::chat, R"({"messages":[]})") == "the request: messages is empty");
  CHECK(body_error(Api::chat, R"({"messages":[{"role":"user","content":[{"type":"image_url"}]}]})") ==
        "the request: messages[0].content[0].type must be \"text\": nothing else is read");
  CHECK(body_error(Api::chat, R"({"messages":[{"role":"user","content":"a","name":"b"}]})") == "the request: messages[0].name is not supported");
}

TEST_CASE("a completion: text, reasons, usage, several prompts and answers", "[server]") {
  Running server;
  Json reply = server.complete(R"({"model":"script","prompt":" one two","max_tokens":4})");
  const index_t length = tokenizer().encode(" one two").size();
  CHECK(text_of(reply) == tokenizer().decode([&] {
    std::vector<Token> tokens = tokenizer().encode(" one two one two one two one two");
    tokens.resize(4);
    return tokens;
  }()));
  CHECK(reply.at("object").text() == "text_completion");
  CHECK(reply.at("choices").at(0).at("finish_reason").text() == "length");
  CHECK(reply.at("usage").at("prompt_tokens").size() == length);
  CHECK(reply.at("usage").at("completion_tokens").size() == 4);
  CHECK(reply.at("usage").at("total_tokens").size() == length + 4);
  CHECK(reply.at("usage").at("prompt_tokens_details").at("cached_tokens").size() == 0);

  reply = server.complete(R"({"prompt":["abc","def"],"n":2,"max_tokens":1})");
  REQUIRE(reply.at("choices").length() == 4);
  for (index_t i = 0; i < 4; ++i) {
    CHECK(reply.at("choices").at(i).at("index").size() == i);
    const std::string prompt = i < 2 ? "abc" : "def";
    CHECK(text_of(reply, i) == tokenizer().decode({{tokenizer().encode(prompt).front()}}));
  }
  CHECK(reply.at("usage").at("completion_tokens").size() == 4);

  reply = server.complete(R"({"prompt":[20,21,2,22],"max_tokens":10})");
  CHECK(reply.at("choices").at(0).at("finish_reason").text() == "stop");
  CHECK(reply.at("usage").at("completion_tokens").size() == 3);
  CHECK(server.complete(R"({"prompt":[20,21,2,22],"max_tokens":10,"ignore_eos":true})").at("usage").at("completion_tokens").size() == 10);

  reply = server.complete(R"({"prompt":" one two three","max_tokens":50,"stop":"wo th"})");
  CHECK(text_of(reply) == " one t");
  CHECK(reply.at("choices").at(0).at("finish_reason").text() == "stop");

  const Reply failed = server.post("/v1/completions", R"({"prompt":[[20,21],[20,0]],"max_tokens":5})");
  CHECK(error_of(failed) == "500 failed: the script says so");
  CHECK(error_of(server.post("/v1/completions", R"({"prompt":[99999]})")) == "400 invalid_value: token 99999 is outside the vocabulary");
  CHECK(error_of(server.post("/v1/completions", R"({"prompt":[[20],[99999]],"stream":true})")) == "400 invalid_value: token 99999 is outside the vocabulary");
  CHECK(error_of(server.post("/v1/completions", R"({"prompt":"a","temperature":-1})")) == "400 invalid_value: temperature must be 0 (greedy) or a positive number");
  CHECK(error_of(server.post("/v1/completions", R"({"prompt":"a","temperature":0,"top_p":2})")) == "400 invalid_value: top-p must lie above 0 and be at most 1");
  CHECK(error_of(server.post("/v1/completions", R"({"prompt":"a","model":"gpt"})")) == "404 model_not_found: there is no model 'gpt' here, but 'script'");
  CHECK(error_of(server.post("/v1/completions", R"({"prompt":[20],"max_tokens":30001})")) ==
        "400 context_length_exceeded: the prompt has 1 tokens and asks for 30001: there is room for 30000 in all");
  CHECK(error_of(server.post("/v1/completions", R"({"prompt":""})")) == "400 invalid_value: the prompt has no tokens");
  CHECK(server.rests_within(2000ms));
}

TEST_CASE("a stream says what the whole answer says, in whole characters", "[server]") {
  Running server;
  const std::string text = " é😀 the €uro 语 fox";
  const std::string body = R"({"prompt":)" + json_text(text) + R"(,"max_tokens":60,"stop":["e €u"])";
  const std::string whole = text_of(server.complete(body + "}"));
  CHECK(whole == " é😀 th");
  const Reply reply = server.post("/v1/completions", body + R"(,"stream":true,"stream_options":{"include_usage":true}})");
  CHECK(holds(reply.headers, "Content-Type: text/event-stream"));
  const std::vector<std::string> data = events(reply.body);
  REQUIRE(data.size() >= 4);
  CHECK(data.back() == "[DONE]");
  std::string streamed, reason;
  for (index_t i = 0; i + 2 < data.size(); ++i) {
    const Json choice = Json::parse(data[i], "event").at("choices").at(index_t{0});
    CHECK(is_utf8(choice.at("text").text()));
    CHECK(choice.at("text").text().find(replacement_character) == std::string::npos);
    streamed += choice.at("text").text();
    CHECK(reason == "");
    if (choice.has("finish_reason")) reason = choice.at("finish_reason").text();
  }
  CHECK(streamed == whole);
  CHECK(reason == "stop");
  const Json usage = Json::parse(data[data.size() - 2], "event");
  CHECK(usage.at("choices").length() == 0);
  CHECK(usage.at("usage").at("prompt_tokens").size() == tokenizer().encode(text).size());

  // Half a character at the very end is told as such.
  std::vector<Token> half = tokenizer().encode("😀");
  REQUIRE(half.size() > 1);
  const Json cut = server.complete(R"({"prompt":)" + json_text("😀") + R"(,"max_tokens":1})");
  CHECK(text_of(cut) == replacement_character);
}

TEST_CASE("chat: the template's text, parts of a message, deltas", "[server]") {
  Running server;
  const Json reply = server.chat(R"({"messages":[{"role":"user","content":[{"type":"text","text":" a"},{"type":"text","text":"b"}]},{"role":"assistant","content":" c"}],"max_tokens":100})");
  const Json choice = reply.at("choices").at(index_t{0});
  CHECK(reply.at("object").text() == "chat.completion");
  CHECK(choice.at("message").at("role").text() == "assistant");
  CHECK(choice.at("message").at("content").text().starts_with(" a\nb c a\nb c"));
  CHECK(choice.at("finish_reason").text() == "length");

  const std::vector<std::string> data = events(server.post("/v1/chat/completions", R"({"messages":[{"role":"user","content":" one two"}],"max_completion_tokens":3,"stream":true,"n":2})").body);
  std::array<std::string, 2> said;
  index_t opened = 0, ended = 0;
  for (index_t i = 0; i + 1 < data.size(); ++i) {
    const Json part = Json::parse(data[i], "event");
    CHECK(part.at("object").text() == "chat.completion.chunk");
    const Json each = part.at("choices").at(index_t{0});
    opened += each.at("delta").has("role");
    ended += each.has("finish_reason");
    if (each.at("delta").has("content")) said[each.at("index").size()] += each.at("delta").at("content").text();
  }
  CHECK(opened == 2);
  CHECK(ended == 2);
  CHECK(said[0] == said[1]);
  CHECK(said[0] != "");
  CHECK(error_of(server.post("/v1/chat/completions", R"({"messages":[{"role":"king","content":"a"}]})")) ==
        "400 invalid_value: only the roles user and assistant are known");
}

TEST_CASE("logprobs are those of the model's logits", "[server]") {
  Running server;
  const std::vector<float> logits = ScriptedEngine::logits();
  double sum = 0.0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
  std::vector<float> sorted = logits;
  std::ranges::sort(sorted, std::greater());
  const auto expected = [&](Token token) { return static_cast<double>(logits[static_cast<index_t>(token)]) - std::log(sum); };
  const std::vector<Token> tokens = tokenizer().encode(" the fox");
  const Json logprobs = server.complete(R"({"prompt":" the fox","max_tokens":2,"logprobs":3})").at("choices").at(index_t{0}).at("logprobs");
  REQUIRE(logprobs.at("tokens").length() == 2);
  for (index_t i = 0; i < 2; ++i) {
    CHECK(logprobs.at("tokens").at(i).text() == tokenizer().decode({{tokens[i]}}));
    CHECK(logprobs.at("token_logprobs").at(i).number() == Approx(expected(tokens[i])).epsilon(1e-12));
    CHECK(logprobs.at("top_logprobs").at(i).keys().size() == 3);
    std::vector<double> top;
    for (const std::string& text : logprobs.at("top_logprobs").at(i).keys()) top.push_back(logprobs.at("top_logprobs").at(i).at(text).number());
    for (index_t k = 0; k < 3; ++k) CHECK(top[k] == Approx(static_cast<double>(sorted[k]) - std::log(sum)).epsilon(1e-12));
  }
  CHECK(logprobs.at("text_offset").at(1).size() == characters(tokenizer().decode({{tokens[0]}})));

  const Json content = server.chat(R"({"messages":[{"role":"user","content":"😀"}],"max_tokens":2,"logprobs":true,"top_logprobs":2})").at("choices").at(index_t{0}).at("logprobs").at("content");
  REQUIRE(content.length() == 2);
  CHECK(content.at(0).at("bytes").is_null());  // a part of a character
  CHECK(content.at(0).at("top_logprobs").length() == 2);
  CHECK(server.complete(R"({"prompt":"a","max_tokens":1})").at("choices").at(index_t{0}).at("logprobs").is_null());

  // A stream has them all, and each once.
  std::string streamed;
  for (const std::string& data : events(server.post("/v1/completions", R"({"prompt":" the fox é😀 end","max_tokens":9,"logprobs":0,"stream":true})").body)) {
    if (data == "[DONE]") continue;
    const Json part = Json::parse(data, "event").at("choices").at(index_t{0}).at("logprobs").at("tokens");
    for (index_t i = 0; i < part.length(); ++i) streamed += part.at(i).text() + "|";
  }
  std::string all;
  const std::vector<Token> prompt = tokenizer().encode(" the fox é😀 end");
  for (index_t i = 0; i < 9; ++i) all += tokenizer().decode({{prompt[i % prompt.size()]}}) + "|";
  CHECK(streamed == all);
}

TEST_CASE("what else there is, and what is not there", "[server]") {
  Running server;
  const auto get = [&](std::string_view path) { return ask(server.port, http_get(path)); };
  CHECK(get("/health").status == 200);
  CHECK(Json::parse(get("/v1/models").body, "").at("data").at(index_t{0}).at("id").text() == "script");
  const Reply page = get("/");
  CHECK(page.body.starts_with("<!doctype html>"));
  CHECK(page.body.find("http://") == page.body.npos);  // nothing from elsewhere
  CHECK(page.body.find("https://") == page.body.npos);
  CHECK(holds(page.headers, "default-src 'none'"));
  CHECK(get("/pool").body == R"({"page_rows":16,"running":0,"waiting":0,"preemptions":0,"hit_rate":0.0,"pages":["free","kept",[3],[3,4]]})");
  CHECK(error_of(get("/nothing")) == "404 not_found: there is nothing at /nothing");
  const Reply wrong = get("/v1/completions");
  CHECK(error_of(wrong) == "405 wrong_method: /v1/completions is for POST");
  CHECK(holds(wrong.headers, "Allow: POST"));
  CHECK(error_of(ask(server.port, http_post("/v1/completions", R"({"prompt":"a"})", "Content-Type: text/plain\r\n"))) ==
        "415 not_json: the header Content-Type must be: application/json");
  CHECK(ask(server.port, "GET /health HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n").status == 403);
  CHECK(ask(server.port, "GET /health HTTP/1.1\r\nHost: localhost:8000\r\nConnection: close\r\n\r\n").status == 200);
  CHECK(ask(server.port, "GET /health HTTP/1.0\r\n\r\n").status == 200);
  CHECK(ask(server.port, "HEAD /health HTTP/1.1\r\nHost: localhost\r\n\r\n").body == "");
}

TEST_CASE("with a key, nobody asks without it", "[server]") {
  Running server({.api_key = "secret"});
  const auto get = [&](std::string_view path, std::string_view headers) { return ask(server.port, http_get(path, headers)).status; };
  CHECK(get("/health", "") == 200);
  CHECK(get("/", "") == 200);
  for (const char* path : {"/metrics", "/pool", "/v1/models"}) {
    CHECK(get(path, "") == 401);
    CHECK(get(path, "Authorization: Bearer secret\r\n") == 200);
    for (const char* wrong : {"Bearer secre", "Bearer secrets", "Bearer ", "secret", "Bearer Secret"})
      CHECK(get(path, "Authorization: " + std::string(wrong) + "\r\n") == 401);
  }
  // Refused before the body is read.
  Connection connection(server.port);
  connection.send("POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\nContent-Type: application/json\r\n\r\n");
  CHECK(read_reply(connection.receive_until("}}")).status == 401);
}

TEST_CASE("metrics are Prometheus' text, and count what happened", "[server]") {
  Running server;
  server.complete(R"({"prompt":" one two three","max_tokens":7})");
  server.complete(R"({"prompt":[20,2],"max_tokens":7})");
  REQUIRE(server.rests_within(2000ms));  // the script counts its answers anew when it has told their ends
  const std::string text = ask(server.port, http_get("/metrics")).body;
  CAPTURE(text);
  const auto has = [&](const std::string& line) { return text.find(line + "\n") != text.npos; };
  CHECK(has("# TYPE kvbook:time_to_first_token_seconds histogram"));
  CHECK(has("kvbook:time_to_first_token_seconds_count 2"));
  CHECK(has("kvbook:time_to_first_token_seconds_bucket{le=\"+Inf\"} 2"));
  CHECK(has("kvbook:inter_token_latency_seconds_count 7"));
  CHECK(has("kvbook:request_time_per_output_token_seconds_count 2"));
  CHECK(has("kvbook:request_success_total{finished_reason=\"length\"} 1"));
  CHECK(has("kvbook:request_success_total{finished_reason=\"stop\"} 1"));
  CHECK(has("kvbook:kv_cache_pages{state=\"free\"} 8"));
  std::string named;
  for (std::size_t begin = 0, end; (end = text.find('\n', begin)) != text.npos; begin = end + 1) {
    const std::string line = text.substr(begin, end - begin);
    if (line.starts_with("# HELP ")) named = line.substr(7, line.find(' ', 7) - 7);
    else if (line.starts_with("# TYPE ")) CHECK(line.substr(7, line.find(' ', 7) - 7) == named);
    else {
      CHECK(line.starts_with(named));
      CHECK(std::isfinite(std::stod(line.substr(line.rfind(' ')))));
    }
  }
}

TEST_CASE("hostile requests are refused in their kind, and the next client is served", "[server]") {
  Running server({}, {.header_bytes = 4096, .body_bytes = 10000, .header_time = 500ms, .body_time = 500ms, .write_time = 1000ms});
  // what the library answers has the form of every other error
  const auto error = [&](const std::string& bytes) {
    const Reply reply = ask(server.port, bytes);
    CHECK(holds(reply.headers, "Content-Type: application/json\r\n"));
    return error_of(reply);
  };
  const std::string head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
  const std::string too_large = "413 body_too_large: the body has more than 10000 bytes";
  CHECK(error("hello\r\n\r\n").starts_with("400 not_http: this is not HTTP: "));
  CHECK(error(std::string(300, '\0')).starts_with("400 not_http: "));
  CHECK(error("GET /health HTTP/1.1\r\nHost: localhost\r\nLong: " + std::string(9000, 'x') + "\r\n\r\n") == "431 headers_too_large: the headers are too long");
  CHECK(error(head + "Content-Length: nonsense\r\n\r\n").starts_with("400 not_http: "));
  CHECK(error(head + "Content-Length: 10001\r\n\r\n" + std::string(10001, ' ')) == too_large);
  CHECK(error(head + "Content-Length: 99999999999\r\n\r\n") == too_large);
  std::string chunks;
  for (int i = 0; i < 11; ++i) chunks += "400\r\n" + std::string(1024, ' ') + "\r\n";
  CHECK(error(head + "Transfer-Encoding: chunked\r\n\r\n" + chunks) == too_large);
  CHECK(error(head + "Transfer-Encoding: chunked\r\n\r\nxyz\r\n").starts_with("400 not_http: "));
  CHECK(error(head + "Transfer-Encoding: chunked\r\n\r\n" + "5\r\n{\"pro\r\n10\r\nmpt\":\"a\",\"n\":1}\r\n0\r\n\r\n").starts_with("400 not_http: "));  // the sizes are wrong
  CHECK(ask(server.port, head + "Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + "5\r\n{\"pro\r\n12\r\nmpt\":\"abc\",\"n\":1 }\r\n0\r\n\r\n").status == 200);
  for (const char* body : {"{", "{\"prompt\":\"\xc3\x28\"}", "{\"prompt\":{}}", "{\"prompt\":\"a\",\"max_tokens\":\"9\"}", "[[[[[[", "null",
                           "{\"prompt\":\"a\",\"temperature\":1e999}", "{\"prompt\":\"a\",\"seed\":99999999999999999999}"}) {
    CAPTURE(body);
    CHECK(server.post("/v1/completions", body).status == 400);
  }
  CHECK(server.post("/v1/completions", std::string(9000, '[')).status == 400);
  {
    Connection truncated(server.port);
    truncated.send(head + "Content-Length: 100\r\n\r\n{\"prompt\":");
    truncated.half_close();
    CHECK(truncated.closes_within(3000ms));
  }
  {
    Connection waits(server.port);
    waits.send(head + "Content-Length: 14\r\nExpect: 100-continue\r\n\r\n");
    CHECK(waits.receive_until("\r\n\r\n") == "HTTP/1.1 100 Continue\r\n\r\n");
    waits.send("{\"prompt\":\"a\"}");
    CHECK(read_reply(waits.receive_until("}}}")).status == 200);
  }
  server.complete(R"({"prompt":"a","max_tokens":1})");
  CHECK(server.rests_within(2000ms));
}

TEST_CASE("who is slow is let go after the header's time, or the body's, or with no byte", "[server]") {
  Running server({}, {.idle_time = 300ms, .header_time = 300ms, .body_time = 300ms});
  const auto begin = Clock::now();
  Connection silent(server.port), body(server.port);
  body.send("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{");
  Connection dripping(server.port);
  std::thread drip([&] {
    for (int i = 0; i < 40 && dripping.send("G"); ++i) std::this_thread::sleep_for(50ms);
  });
  CHECK(silent.closes_within(3000ms));
  CHECK(body.closes_within(3000ms));
  CHECK(dripping.closes_within(3000ms));
  CHECK(Clock::now() - begin < 2000ms);  // dripping has not bought more time
  drip.join();
}

TEST_CASE("a connection serves one request after the other, also those that came too early", "[server]") {
  Running server;
  const std::string one = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
  const std::string two = kept_post(R"({"prompt":"abc","max_tokens":1})");
  const std::string three = kept_post(R"({"prompt":"abc","max_tokens":2,"stream":true})");
  Connection connection(server.port);
  connection.send(one + two + three + one + two);
  CHECK(read_reply(connection.receive_until("\"}")).status == 200);
  CHECK(read_reply(connection.receive_until("}}}")).status == 200);
  CHECK(read_reply(connection.receive_until("0\r\n\r\n")).status == 200);
  CHECK(read_reply(connection.receive_until("\"}")).status == 200);
  CHECK(read_reply(connection.receive_until("}}}")).status == 200);
}

TEST_CASE("a connection may rest, before its first request and between two, for longer than a header may take", "[server]") {
  Running server({}, {.header_time = 500ms});
  std::vector<Connection> connections;
  for (int i = 0; i < 24; ++i) connections.emplace_back(server.port);
  const std::string request = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
  for (int times = 0; times < 2; ++times) {
    for (Connection& connection : connections) {  // from well before the header's time to well behind it
      std::this_thread::sleep_for(30ms);
      connection.send(request.substr(0, 20));
      std::this_thread::sleep_for(1ms);
      connection.send(request.substr(20));
    }
    for (Connection& connection : connections) CHECK(read_reply(connection.receive_until("\"}")).status == 200);
  }
}

TEST_CASE("the next request may come whole while the one before is answered, and no more", "[server]") {
  Running server({}, {.header_bytes = 4096, .body_bytes = 100'000});
  server.engine.stop();
  Connection early(server.port), too_much(server.port);
  const std::string body = R"({"prompt":"abc","max_tokens":1})";
  early.send(kept_post(body) + kept_post(body + std::string(90'000, ' ')));
  too_much.send(kept_post(body) + kept_post(body + std::string(150'000, ' ')));
  CHECK(too_much.closes_within(2000ms));
  server.engine.go();
  for (int i = 0; i < 2; ++i) CHECK(read_reply(early.receive_until("}}}")).status == 200);
}

TEST_CASE("a client that leaves frees its pages within one step, streamed or not", "[server]") {
  const bool streamed = GENERATE(false, true), reset = GENERATE(false, true);
  CAPTURE(streamed, reset);
  Running server({}, Running::quick(), 50'000us);
  Connection leaving(server.port), staying(server.port);
  const std::string body = std::string(R"({"prompt":"abc","max_tokens":20000,"n":3)") + (streamed ? R"(,"stream":true})" : "}");
  leaving.send(http_post("/v1/completions", body));
  REQUIRE(comes_true([&] { return server.engine.running() == 3; }));
  if (streamed) leaving.receive_until("data: ");
  const std::uint64_t before = server.engine.steps();
  leaving.close(reset);
  CHECK(server.rests_within(2000ms));
  CHECK(server.engine.steps() <= before + 2);  // the one that ran, and one in which it was heard
}

TEST_CASE("who sends and then says no more has left", "[server]") {
  Running server;
  Connection half(server.port);
  half.send(http_post("/v1/completions", R"({"prompt":"abc","max_tokens":20000})"));
  REQUIRE(comes_true([&] { return server.engine.running() > 0; }));
  half.half_close();
  CHECK(server.rests_within(2000ms));
}

TEST_CASE("a client that leaves before its request has begun is not served", "[server]") {
  Running server;
  server.engine.stop();
  {
    Connection leaving(server.port);
    leaving.send(http_post("/v1/completions", R"({"prompt":"abc","max_tokens":20000})"));
    REQUIRE(comes_true([&] { return server.engine.waiting() == 1; }));
  }
  std::this_thread::sleep_for(50ms);
  server.engine.go();
  CHECK(server.rests_within(2000ms));
  server.complete(R"({"prompt":"a","max_tokens":1})");
}

TEST_CASE("a client that does not read its stream is let go, and keeps nobody waiting", "[server]") {
  HttpLimits limits = Running::quick();
  limits.write_time = 500ms;
  Running server({}, limits, 0us);
  Connection deaf(server.port);
  deaf.send(http_post("/v1/completions", R"({"prompt":"abc","max_tokens":29000,"n":128,"logprobs":20,"stream":true})"));
  const auto begin = Clock::now();
  server.complete(R"({"prompt":"a","max_tokens":3})");
  CHECK(server.rests_within(20'000ms));
  CHECK(Clock::now() - begin < 20s);
}

TEST_CASE("more requests than are allowed are told to come again", "[server]") {
  Running server({.in_flight = 2});
  server.engine.stop();
  Connection a(server.port), b(server.port);
  a.send(http_post("/v1/completions", R"({"prompt":"abc","max_tokens":5})"));
  b.send(http_post("/v1/completions", R"({"prompt":"abc","max_tokens":5})"));
  REQUIRE(comes_true([&] { return server.engine.waiting() == 2; }));
  const Reply refused = server.post("/v1/completions", R"({"prompt":"abc"})");
  CHECK(refused.status == 429);
  CHECK(holds(refused.headers, "Retry-After: 1"));
  CHECK(ask(server.port, http_get("/health")).status == 200);
  server.engine.go();
  CHECK(read_reply(a.receive_all()).status == 200);
  CHECK(read_reply(b.receive_all()).status == 200);
  server.complete(R"({"prompt":"a","max_tokens":1})");
}

TEST_CASE("who has the whole answer may ask again at once", "[server]") {
  const bool streamed = GENERATE(false, true);
  Running server({.in_flight = 1});
  const std::string body = std::string(R"({"prompt":"abc","max_tokens":2)") + (streamed ? R"(,"stream":true})" : "}");
  for (int i = 0; i < 200; ++i) REQUIRE(server.post("/v1/completions", body).status == 200);
}

TEST_CASE("1,000 idle or slow connections do not keep a good client waiting", "[server]") {
  Running server({}, {.header_time = 20'000ms, .body_time = 20'000ms});
  const auto timed = [&] {
    const auto begin = Clock::now();
    server.complete(R"({"prompt":" one two three","max_tokens":100})");
    return Clock::now() - begin;
  };
  auto alone = timed();
  for (int i = 0; i < 4; ++i) alone = std::min(alone, timed());
  std::vector<Connection> crowd;
  for (int i = 0; i < 1000; ++i) {
    crowd.emplace_back(server.port);
    if (i % 3 == 1) crowd.back().send("GET /hea");
    if (i % 3 == 2) crowd.back().send("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{");
  }
  auto crowded = timed();
  for (int i = 0; i < 4; ++i) crowded = std::min(crowded, timed());
  CHECK(crowded < 2 * alone + 100ms);
}

TEST_CASE("beyond the limit of connections, the one without a whole request for longest is closed", "[server]") {
  const std::string begun = GENERATE(as<std::string>(), "", "GET /hea", kept_post(std::string(50, ' ')).substr(0, 110));
  CAPTURE(begun);
  Running server({}, {.connections = 10, .header_time = 20'000ms});
  std::vector<Connection> crowd;
  for (int i = 0; i < 20; ++i) {
    crowd.emplace_back(server.port);
    crowd.back().send(begun);
  }
  CHECK(crowd.front().closes_within(2000ms));
  server.complete(R"({"prompt":"a","max_tokens":1})");
  CHECK_FALSE(crowd.back().closes_within(50ms));
}

TEST_CASE("stop: what runs is finished, the rest is refused, and run() ends", "[server]") {
  Running server({}, Running::quick(), 2000us);
  Connection idle(server.port), busy(server.port), late(server.port);
  busy.send(http_post("/v1/completions", R"({"prompt":"abc","max_tokens":100,"stream":true})"));
  const std::string body = R"({"prompt":"abc"})";
  late.send("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body.substr(0, 5));
  busy.receive_until("data: ");
  server.http->stop();
  CHECK(idle.closes_within(1000ms));
  late.send(body.substr(5));
  CHECK(error_of(read_reply(late.receive_all())) == "503 server_ends: the server is about to end");
  CHECK_THROWS(Connection(server.port));
  const std::string rest = busy.receive_all();
  CHECK(rest.find("[DONE]") != rest.npos);
  CHECK(rest.find("\"finish_reason\":\"length\"") != rest.npos);
  server.thread.join();
}

TEST_CASE("stop, said twice, waits for nobody", "[server]") {
  Running server({}, Running::quick(), 2000us);
  Connection busy(server.port);
  busy.send(http_post("/v1/completions", R"({"prompt":"abc","max_tokens":20000,"stream":true})"));
  busy.receive_until("data: ");
  server.http->stop();
  server.http->stop();
  server.thread.join();
  CHECK(server.rests_within(2000ms));
}

TEST_CASE("an engine that ends tells its clients", "[server]") {
  const bool streamed = GENERATE(false, true);
  Running server({}, Running::quick(), 1000us);
  Connection client(server.port);
  client.send(http_post("/v1/completions", std::string(R"({"prompt":"abc","max_tokens":20000,"n":2)") + (streamed ? R"(,"stream":true})" : "}")));
  if (streamed) client.receive_until("data: ");
  REQUIRE(comes_true([&] { return server.engine.running() == 2; }));
  server.engine.end();
  const std::string all = client.receive_all();
  CHECK(holds(all, R"({"error":{"message":"the server is about to end","type":"server_error")"));
  if (!streamed) CHECK(read_reply(all).status == 500);
}
