#include "chapters/server/service.hpp"

#include <algorithm>

#include "common/files/error.hpp"

namespace kv {
namespace {

/// What a path is for.
struct Route {
  std::string_view path, method;
  bool open = false;  // to those without a key
};
constexpr Route routes[] = {{"/", "GET", true},        {"/health", "GET", true},       {"/metrics", "GET"},
                            {"/pool", "GET"},          {"/v1/models", "GET"},          {"/v1/completions", "POST"},
                            {"/v1/chat/completions", "POST"}};

HttpAnswer error(int status, std::string_view code, const std::string& message) {
  return {.status = status, .body = error_json(status, code, message)};
}

/// In a time that does not depend on where two texts begin to differ.
bool same(std::string_view a, std::string_view b) {
  unsigned char difference = a.size() != b.size();
  for (index_t i = 0; i < a.size(); ++i) difference |= static_cast<unsigned char>(a[i] ^ b[b.empty() ? 0 : i % b.size()]);
  return difference == 0;
}

/// Without the port.
bool is_local_name(std::string host) {
  const index_t colon = host.rfind(':');
  if (colon != host.npos && host.find(']', colon) == host.npos) host.resize(colon);
  return host.empty() || host == "localhost" || host == "127.0.0.1" || host == "[::1]";
}

}  // namespace

Service::Service(ServedModel model, Backend backend, ServiceLimits limits)
    : model_(std::move(model)), backend_(std::move(backend)), limits_(std::move(limits)), created_(seconds_since_1970()) {}

HttpAnswer Service::failure(int status, const std::string& message) {
  switch (status) {
    case 400: return error(status, "not_http", message);
    case 413: return error(status, "body_too_large", message);
    case 431: return error(status, "headers_too_large", message);
    case 503: return error(status, "server_ends", message);
    default: return error(status, "failed", message);
  }
}

/// Without a key, two ways are closed by which a web page in a browser on this machine could ask: under a name of its own
/// that it has made to mean this machine, and by a form, which cannot call itself JSON.
std::optional<HttpAnswer> Service::refusal(const HttpRequest& request) const {
  const auto route = std::ranges::find(routes, request.path, &Route::path);
  if (limits_.api_key.empty() && !is_local_name(request.host))
    return error(403, "wrong_host", "without --api-key this server answers to localhost only");
  if (route == std::end(routes)) return error(404, "not_found", "there is nothing at " + request.path);
  if (!limits_.api_key.empty() && !route->open && !same(request.authorization, "Bearer " + limits_.api_key))
    return error(401, "invalid_api_key", "the header Authorization must be: Bearer, and the server's key");
  if (request.method != route->method) {
    HttpAnswer answer = error(405, "wrong_method", request.path + " is for " + std::string(route->method));
    answer.headers["Allow"] = route->method;
    return answer;
  }
  if (request.method == "POST" && !request.content_type.starts_with("application/json"))
    return error(415, "not_json", "the header Content-Type must be: application/json");
  return std::nullopt;
}

HttpAnswer Service::look(const std::string& path) const {
  if (path == "/health") return {.body = "{\"status\":\"ok\"}"};
  if (path == "/v1/models") return {.body = models_json(model_.name, model_.capacity, created_)};
  if (path == "/pool") return {.body = pool_json(backend_.stats(), backend_.pages())};
  if (path == "/metrics") return {.type = "text/plain; version=0.0.4; charset=utf-8", .body = metrics_.text(backend_.stats())};
  return {.type = "text/html; charset=utf-8",
          .body = std::string(page_html),
          .headers = {{"Content-Security-Policy",
                       "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
                       "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"}}};
}

void Service::handle(std::shared_ptr<Exchange> client) {
  const std::string& path = client->request().path;
  try {
    if (path == "/v1/completions") complete(Api::completions, client);
    else if (path == "/v1/chat/completions") complete(Api::chat, client);
    else client->answer(look(path));
  } catch (const RequestError& refused) {
    client->answer(error(refused.status, refused.code, refused.what()));
  } catch (const Error& refused) {
    client->answer(error(400, "invalid_value", refused.what()));
  } catch (const std::exception& failure) {
    client->answer(error(500, "failed", failure.what()));
  }
}

void Service::complete(Api api, std::shared_ptr<Exchange> client) {
  if (in_flight_ >= limits_.in_flight) {
    HttpAnswer answer =
        error(429, "too_many_requests", "the server has " + std::to_string(limits_.in_flight) + " requests already");
    answer.headers["Retry-After"] = "1";
    return client->answer(std::move(answer));
  }
  CompletionRequest request = parse_completion_request(api, client->request().body);
  if (!request.model.empty() && request.model != model_.name)
    throw RequestError(404, "model_not_found", "there is no model '" + request.model + "' here, but '" + model_.name + "'");
  std::make_shared<Completion>(client, std::move(request), model_, metrics_, in_flight_)->start(backend_);
}

}  // namespace kv
