#include "chapters/server/completion.hpp"

#include <algorithm>
#include <cmath>
#include <random>

#include "common/files/error.hpp"
#include "common/text/utf8.hpp"

namespace kv {
namespace {

/// Nobody else's, in this run of the program or another.
std::string new_id() {
  static const std::uint64_t run = std::uint64_t{std::random_device{}()} << 32 | std::random_device{}();
  static std::atomic<std::uint64_t> count = 0;
  return std::to_string(run) + "-" + std::to_string(++count);
}

double seconds(std::chrono::steady_clock::duration time) { return std::chrono::duration<double>(time).count(); }

/// As a client sees a token alone: half a character is U+FFFD, and an id without a token is nothing.
std::string text_of(const Tokenizer& tokenizer, Token token) {
  try {
    return tokenizer.decode({&token, 1});
  } catch (const std::out_of_range&) {
    return "";
  }
}

std::string event(const std::string& data) { return "data: " + data + "\n\n"; }

}  // namespace

std::int64_t seconds_since_1970() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

Completion::Completion(std::shared_ptr<Exchange> client, CompletionRequest request, const ServedModel& model,
                       ServerMetrics& metrics, std::atomic<index_t>& in_flight)
    : client_(std::move(client)), request_(std::move(request)), model_(model), metrics_(metrics), in_flight_(in_flight) {
  ++in_flight_;
  const bool chat = request_.api == Api::chat;
  envelope_ = {request_.api, request_.stream, request_.logprobs.has_value(), (chat ? "chatcmpl-" : "cmpl-") + new_id(),
               model_.name, seconds_since_1970()};
  const StopStrings stops = std::make_shared<const std::vector<StopString>>(request_.stop.begin(), request_.stop.end());
  open_ = request_.prompts.size() * request_.answers;
  for (index_t i = 0; i < open_; ++i) choices_.push_back({AnswerText(model_.tokenizer, stops)});
}

std::vector<Token> Completion::prompt(const PromptText& text) const {
  std::vector<Token> tokens;
  if (request_.api == Api::chat) tokens = model_.tokenizer.encode(model_.write_chat(request_.messages));
  else if (const auto* ids = std::get_if<std::vector<Token>>(&text)) tokens = *ids;
  else tokens = model_.encode_prompt(std::get<std::string>(text));
  if (tokens.empty()) throw Error("the prompt has no tokens");
  const index_t wanted = request_.max_tokens.value_or(1);
  if (tokens.size() > model_.capacity || wanted > model_.capacity + 1 - tokens.size())  // the last token is not fed
    throw RequestError(400, "context_length_exceeded",
                       "the prompt has " + std::to_string(tokens.size()) + " tokens and asks for " + std::to_string(wanted) +
                           ": there is room for " + std::to_string(model_.capacity) + " in all");
  return tokens;
}

Request Completion::engine_request(std::vector<Token> prompt, index_t first_choice) {
  const index_t room = model_.capacity + 1 - prompt.size();
  const std::optional<bool> drawn = request_.temperature ? std::optional(*request_.temperature != 0.0)
                                    : request_.top_p || request_.top_k || request_.min_p ? std::optional(true) : std::nullopt;
  const GenerationConfig defaults = model_.defaults(drawn);
  const Sampling sampling{request_.temperature.value_or(defaults.sample ? defaults.temperature : 0.0),
                          request_.top_k.value_or(defaults.top_k), request_.top_p.value_or(defaults.top_p),
                          request_.min_p.value_or(defaults.min_p), request_.seed ? *request_.seed : std::random_device{}()};
  const auto self = shared_from_this();
  return {.prompt = std::move(prompt),
          .answers = request_.answers,
          .max_new_tokens = request_.max_tokens.value_or(request_.api == Api::chat ? room : std::min<index_t>(16, room)),
          .rules = defaults.rules,
          .sampling = sampling,
          .stop = request_.ignore_stop_tokens ? std::vector<Token>() : defaults.stop,
          .on_token = [self, first_choice](const DrawnToken& drawn) { return self->token(first_choice + drawn.answer, drawn); },
          .on_end = [self, first_choice](const EndedAnswer& answer) { self->ended(first_choice + answer.answer, answer); }};
}

void Completion::start(const Backend& backend) {
  std::vector<Request> requests;
  for (index_t p = 0; p < request_.prompts.size(); ++p) {
    requests.push_back(engine_request(prompt(request_.prompts[p]), p * request_.answers));
    usage_.prompt += requests.back().prompt.size();
  }
  std::vector<RequestId> ids;
  const std::lock_guard lock(mutex_);
  try {
    for (Request& request : requests) ids.push_back(backend.submit(std::move(request)));
  } catch (const Error&) {
    failed_ = true;
    std::ranges::for_each(ids, backend.cancel);
    throw;
  }
  if (request_.stream) client_->begin({.type = "text/event-stream; charset=utf-8"});
  client_->when_left([ids, cancel = backend.cancel] { std::ranges::for_each(ids, cancel); });
}

// [token]
bool Completion::token(index_t choice, const DrawnToken& drawn) {
  const std::lock_guard lock(mutex_);
  Choice& c = choices_[choice];
  const Clock::time_point now = Clock::now();
  if (c.tokens++ == 0) metrics_.first_token(seconds((c.first = now) - begin_));
  else metrics_.next_token(seconds(now - c.last));
  c.last = now;
  if (request_.logprobs) c.logprobs.push_back(logprobs(drawn));
  if (std::string text = c.text.push(drawn.token); !text.empty()) send(choice, std::move(text));
  return !failed_ && !c.text.stopped();
}
// [token]

void Completion::ended(index_t choice, const EndedAnswer& answer) {
  const std::lock_guard lock(mutex_);
  Choice& c = choices_[choice];
  c.finish = c.text.stopped() || answer.finish == Finish::stop ? "stop" : answer.finish == Finish::length ? "length"
             : answer.finish == Finish::cancelled ? "abort" : "error";
  metrics_.ended(c.finish, seconds(Clock::now() - begin_),
                 c.tokens > 1 ? std::optional(seconds(c.last - c.first) / static_cast<double>(c.tokens - 1)) : std::nullopt);
  if (--open_ == 0) leave();
  usage_.completion += answer.new_tokens;
  if (choice % request_.answers == 0) usage_.cached += answer.reused_tokens;
  if (answer.finish == Finish::failed || c.finish == "abort")
    fail(answer.error.empty() ? "the server is about to end" : answer.error);
  else send(choice, c.text.finish());
  if (open_ == 0) send_end();
}

/// Before the last words: a client that has read them may ask again at once.
void Completion::leave() {
  if (!std::exchange(over_, true)) --in_flight_;
}

/// One answer that cannot be given spoils the others too: a client would not know which one is missing.
void Completion::fail(const std::string& error) {
  if (std::exchange(failed_, true)) return;
  const std::string json = error_json(500, "failed", error);
  if (!request_.stream) return client_->answer({.status = 500, .body = json});
  client_->write(event(json));
  client_->end();
}

ChoicePart Completion::part(index_t choice, std::string text) {
  Choice& c = choices_[choice];
  ChoicePart part{choice,
                  std::move(text),
                  c.finish.empty() ? std::nullopt : std::optional(c.finish),
                  std::exchange(c.logprobs, {}),
                  c.text_offset,
                  !std::exchange(c.opened, true)};
  for (const TokenLogprobs& token : part.logprobs) c.text_offset += characters(token.text);
  return part;
}

void Completion::send(index_t choice, std::string text) {
  if (!request_.stream) choices_[choice].said += text;
  else if (!failed_) client_->write(event(completion_json(envelope_, {{part(choice, std::move(text))}}, std::nullopt)));
}

void Completion::send_end() {
  if (failed_) return;
  if (request_.stream) {
    if (request_.stream_usage) client_->write(event(completion_json(envelope_, {}, usage_)));
    client_->write(event("[DONE]"));
    return client_->end();
  }
  std::vector<ChoicePart> parts;
  for (index_t i = 0; i < choices_.size(); ++i) parts.push_back(part(i, std::move(choices_[i].said)));
  client_->answer({.body = completion_json(envelope_, parts, usage_)});
}

TokenLogprobs Completion::logprobs(const DrawnToken& drawn) const {
  const std::span<const float> logits = drawn.logits;
  const double top = *std::ranges::max_element(logits);
  double sum = 0.0;
  for (const float each : logits) sum += std::exp(static_cast<double>(each) - top);
  const auto logit = [&](Token token) { return logits[static_cast<index_t>(token)]; };
  const auto logprob = [&](Token token) { return static_cast<double>(logit(token)) - top - std::log(sum); };
  std::vector<Token> likely(logits.size());
  for (index_t v = 0; v < likely.size(); ++v) likely[v] = static_cast<Token>(v);
  const auto end = likely.begin() + static_cast<std::ptrdiff_t>(std::min(*request_.logprobs, likely.size()));
  std::ranges::partial_sort(likely, end, [&](Token a, Token b) {
    return logit(a) != logit(b) ? logit(a) > logit(b) : a < b;
  });
  TokenLogprobs result{text_of(model_.tokenizer, drawn.token), logprob(drawn.token), {}};
  for (auto token = likely.begin(); token != end; ++token)
    result.top.emplace_back(text_of(model_.tokenizer, *token), logprob(*token));
  return result;
}

}  // namespace kv
