#pragma once
/// @file
/// What the server answers, path by path.
#include "chapters/server/completion.hpp"

namespace kv {

/// Who may ask, and how much at a time.
struct ServiceLimits {
  std::string api_key = {};   ///< empty: nobody needs one, and requests must be addressed to this machine by a local name
  index_t in_flight = 256;    ///< requests for completions
};

/// Answers requests for one model.
class Service {
 public:
  Service(ServedModel model, Backend backend, ServiceLimits limits);

  /// HttpServer's way to say an error.
  static HttpAnswer failure(int status, const std::string& message);
  /// HttpServer's gate.
  std::optional<HttpAnswer> refusal(const HttpRequest& request) const;
  /// HttpServer's handler.
  void handle(std::shared_ptr<Exchange> client);

 private:
  HttpAnswer look(const std::string& path) const;
  void complete(Api api, std::shared_ptr<Exchange> client);

  ServedModel model_;
  Backend backend_;
  ServiceLimits limits_;
  std::int64_t created_;
  ServerMetrics metrics_;
  std::atomic<index_t> in_flight_ = 0;
};

/// The page that a browser shows.
extern const std::string_view page_html;

}  // namespace kv
