#include <unistd.h>

#include <chrono>
#include <fstream>
#include <iostream>

#include "chapters/09_paged_cache/engine.hpp"
#include "chapters/program/paged_session.hpp"
#include "chapters/server/service.hpp"
#include "common/files/error.hpp"
#include "common/files/text_file.hpp"
#include "common/text/chat_template.hpp"

namespace kv {
namespace {

/// Where the server listens, and to whom.
struct Address {
  std::string host;
  unsigned short port;
  std::string key;

  bool is_loopback() const { return host.starts_with("127.") || host == "::1"; }
  std::string url() const {
    return "http://" + (host.find(':') == host.npos ? host : "[" + host + "]") + ":" + std::to_string(port) + "/";
  }
};

/// --api-key KEY, or @FILE: what stands in a command line can be read by everybody on the machine.
std::string api_key(const Arguments& arguments) {
  std::string key = arguments.text_or("--api-key", "");
  if (key.starts_with('@')) key = read_text(key.substr(1));
  while (key.ends_with('\n') || key.ends_with('\r')) key.pop_back();
  if (arguments.has("--api-key") && key.empty()) throw UsageError("--api-key is empty");
  return key;
}

Address address(const Arguments& arguments) {
  std::string host = arguments.text_or("--host", "127.0.0.1");
  if (host == "localhost") host = "127.0.0.1";
  const index_t port = arguments.size_or("--port", 8000);
  if (port > 65535) throw UsageError("--port must be at most 65535");
  const Address result{host, static_cast<unsigned short>(port), api_key(arguments)};
  if (!result.is_loopback() && result.key.empty())
    throw UsageError("--host " + host + " can be reached from other machines: that needs --api-key");
  return result;
}

HttpLimits http_limits(const Arguments& arguments) {
  HttpLimits limits;
  limits.body_bytes = arguments.size_or("--max-body", limits.body_bytes, 1);
  limits.header_time = std::chrono::seconds(arguments.size_or("--header-time", 10, 1));
  return limits;
}

std::string default_name(const Checkpoint& checkpoint) {
  return std::filesystem::weakly_canonical(checkpoint.directory()).filename().string();
}

/// The conversation as the checkpoint's own template writes it, dated today (UTC) where it writes a date.
std::function<std::string(const std::vector<Message>&)> chat_writer(const Checkpoint& checkpoint) {
  try {
    return [form = ChatTemplate(checkpoint.directory())](const std::vector<Message>& messages) {
      const auto today = std::chrono::floor<std::chrono::days>(std::chrono::system_clock::now());
      return form.render(messages, true, std::chrono::year_month_day(today));
    };
  } catch (const Error& error) {
    return [why = std::string(error.what())](const std::vector<Message>&) -> std::string { throw Error(why); };
  }
}

ServedModel served_model(const Checkpoint& checkpoint, const Tokenizer& tokenizer, const Limits& limits,
                         const Arguments& arguments) {
  const std::filesystem::path directory = checkpoint.directory();
  return {.name = arguments.text_or("--name", default_name(checkpoint)),
          .capacity = limits.capacity,
          .tokenizer = tokenizer,
          .encode_prompt = [directory, &tokenizer](std::string_view text) { return encode_prompt(directory, tokenizer, text); },
          .write_chat = chat_writer(checkpoint),
          .defaults = [directory](std::optional<bool> sample) { return read_generation_config(directory, sample); }};
}

Backend backend(Engine& engine) {
  return {.submit = [&engine](Request request) { return engine.submit(std::move(request)); },
          .cancel = [&engine](RequestId id) { engine.cancel(id); },
          .stats = [&engine] { return engine.stats(); },
          .pages = [&engine] { return engine.pages(); }};
}

void run(const Arguments& arguments) {
  Address listen = address(arguments);
  const HttpLimits limits_of_http = http_limits(arguments);
  const ServiceLimits limits_of_service{listen.key, arguments.size_or("--max-requests", 256, 1)};
  const Checkpoint checkpoint = open_checkpoint(arguments);
  const Stage stage = chosen_paged_stage(checkpoint, arguments);
  const Limits limits = chosen_limits(checkpoint, stage, arguments);
  const Tokenizer tokenizer = open_tokenizer(checkpoint.directory());
  const ServedModel model = served_model(checkpoint, tokenizer, limits, arguments);
  model.defaults(std::nullopt);  // what it refuses, it refuses now
  apply_threads(arguments);
  Engine engine(load_scheduler(checkpoint, stage, limits, {.tokens_per_step = arguments.size_or("--tokens-per-step", 512, 1)}));
  Service service(model, backend(engine), limits_of_service);
  {
    HttpServer http(listen.host, listen.port, limits_of_http, &Service::failure,
                    [&](const HttpRequest& request) { return service.refusal(request); },
                    [&](std::shared_ptr<Exchange> client) { service.handle(std::move(client)); });
    listen.port = http.port();
    http.stop_at_signals();
    std::cout << "kvbook: " << model.name << ", stage " << stage.name << ", " << limits.sequences << " answers at a time, "
              << limits.capacity << " tokens each at most\nlistening on " << listen.url() << ", Ctrl-C ends it" << std::endl;
    http.run();
  }
  engine.drain();  // what was cancelled at last still looks into the service
}

}  // namespace

const Command serve_command{"serve",
                            "a server with OpenAI's API: many requests, one paged cache",
                            {model_option, stage_option, batch_option, capacity_option, step_option,
                             {"--host", "ADDRESS", "where to listen (default 127.0.0.1: this machine only)"},
                             {"--port", "P", "0: any that is free (default 8000)"},
                             {"--api-key", "KEY", "what clients must know, or @FILE; needed for other addresses"},
                             {"--name", "NAME", "what clients call the model (default: the directory's name)"},
                             {"--max-requests", "N", "requests in flight; more are told to come again (default 256)"},
                             {"--max-body", "BYTES", "of a request (default 1048576)"},
                             {"--header-time", "S", "seconds from a request's first byte to the end of its headers (default 10)"},
                             threads_option},
                            run};

}  // namespace kv
