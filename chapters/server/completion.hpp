#pragma once
/// @file
/// From a request that was read to its answer on the wire.
#include <atomic>
#include <mutex>

#include "chapters/09_paged_cache/request.hpp"
#include "common/text/answer_text.hpp"
#include "chapters/server/completion_json.hpp"
#include "common/http/http_server.hpp"
#include "chapters/server/server_metrics.hpp"

namespace kv {

/// What the server needs to know of a model. The functions throw Error where a request cannot be served.
struct ServedModel {
  std::string name;
  index_t capacity;  ///< tokens of a prompt and its answer
  const Tokenizer& tokenizer;
  std::function<std::vector<Token>(std::string_view text)> encode_prompt;  ///< with the begin-of-text token
  std::function<std::string(const std::vector<Message>&)> write_chat;      ///< the checkpoint's own template
  std::function<GenerationConfig(std::optional<bool> sample)> defaults;    ///< the checkpoint's own
};

/// Who computes: the functions of an Engine.
struct Backend {
  std::function<RequestId(Request)> submit;
  std::function<void(RequestId)> cancel;
  std::function<SchedulerStats()> stats;
  std::function<std::vector<PageView>()> pages;
};

std::int64_t seconds_since_1970();

/// A client's request while it is answered. After start() the backend keeps it alive, and calls it in its own thread.
class Completion : public std::enable_shared_from_this<Completion> {
 public:
  /// @param in_flight counts those that are not over
  Completion(std::shared_ptr<Exchange> client, CompletionRequest request, const ServedModel& model, ServerMetrics& metrics,
             std::atomic<index_t>& in_flight);
  ~Completion() { leave(); }

  /// @throws Error for a request that cannot be served; the client has heard nothing then
  void start(const Backend& backend);

 private:
  using Clock = std::chrono::steady_clock;
  struct Choice {
    AnswerText text;
    std::string said = {};                    // while it is not streamed
    std::vector<TokenLogprobs> logprobs = {}; // not sent yet
    index_t text_offset = 0;                  // of these
    bool opened = false;
    std::string finish = {};                  // empty: not ended
    index_t tokens = 0;
    Clock::time_point first = {}, last = {};
  };

  std::vector<Token> prompt(const PromptText& text) const;
  Request engine_request(std::vector<Token> prompt, index_t first_choice);
  bool token(index_t choice, const DrawnToken& drawn);
  void ended(index_t choice, const EndedAnswer& answer);
  void leave();
  void fail(const std::string& error);
  ChoicePart part(index_t choice, std::string text);
  void send(index_t choice, std::string text);
  void send_end();
  TokenLogprobs logprobs(const DrawnToken& drawn) const;

  std::shared_ptr<Exchange> client_;
  CompletionRequest request_;
  const ServedModel& model_;
  ServerMetrics& metrics_;
  std::atomic<index_t>& in_flight_;
  Envelope envelope_;
  Clock::time_point begin_ = Clock::now();
  std::mutex mutex_;  // guards the rest: answers may come before start() is through
  std::vector<Choice> choices_;  // answer i of prompt p is number p * answers + i
  Usage usage_;
  index_t open_;                 // choices that have not ended
  bool over_ = false;            // its place is free for another
  bool failed_ = false;
};

}  // namespace kv
