#pragma once
/// @file
/// What the server knows of HTTP: requests, answers, and a client that may leave at any time.
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "common/tensor/tensor.hpp"

namespace kv {

struct HttpRequest {
  std::string method, path;  ///< "GET", "/v1/models"; without what follows a question mark
  std::string host, authorization, content_type, body = {};
};

struct HttpAnswer {
  int status = 200;
  std::string type = "application/json", body = {};
  std::map<std::string, std::string> headers = {};  ///< more of them
};

/// One request and its client, who waits for the answer. Everything may be called from any thread and does not wait; what
/// comes after the end, or after the client has left, does nothing.
class Exchange {
 public:
  virtual const HttpRequest& request() const = 0;
  /// The whole answer.
  virtual void answer(HttpAnswer answer) = 0;
  /// Or in pieces, as they come: `headers` and status of this one, then any number of pieces, and the end.
  virtual void begin(HttpAnswer headers) = 0;
  virtual void write(std::string piece) = 0;
  virtual void end() = 0;
  /// Is called once when the client leaves before the end: at once if it has left already. In the server's thread.
  virtual void when_left(std::function<void()> action) = 0;
  virtual ~Exchange() = default;
};

/// How much a client may cost before it has asked for anything.
struct HttpLimits {
  index_t connections = 4096;  ///< beyond, the one that has sent no whole request for longest is closed
  index_t header_bytes = 16 << 10, body_bytes = 1 << 20;
  /// Without a byte of a request. Clients send the next one on a connection that they have; if it is closed just then, that
  /// request gets no answer. So they must be the first to close: Go's keep one for 90 s, curl for 118.
  std::chrono::milliseconds idle_time{300'000};
  std::chrono::milliseconds header_time{10'000};  ///< from a request's first byte to the end of its headers
  std::chrono::milliseconds body_time{30'000};    ///< to send all of a body
  std::chrono::milliseconds write_time{30'000};   ///< to take in what was written
  index_t unread_bytes = 16 << 20;                ///< of an answer that a client may leave waiting
};

/// Serves HTTP/1.1 on one address.
class HttpServer {
 public:
  /// How an error is said that the server meets itself: what is no HTTP, too long, or comes too late.
  using Failure = std::function<HttpAnswer(int status, const std::string& message)>;
  /// Looks at headers, before a body is read: an answer here refuses the request. Must not wait.
  using Gate = std::function<std::optional<HttpAnswer>(const HttpRequest&)>;
  /// Deals with a whole request, in one thread beside the server's. May wait.
  using Handler = std::function<void(std::shared_ptr<Exchange>)>;

  /// Listens, but accepts nobody yet.  @param port 0: any that is free
  /// @throws Error when the address cannot be had
  HttpServer(const std::string& address, unsigned short port, HttpLimits limits, Failure failure, Gate gate, Handler handler);
  ~HttpServer();

  unsigned short port() const;
  /// Serves until stop(), and then until every answer that was begun has ended.
  void run();
  /// From any thread: accepts nobody any more and closes what is idle. The second time: closes everything.
  void stop();
  /// SIGTERM and SIGINT call stop().
  void stop_at_signals();

  struct Parts;

 private:
  std::shared_ptr<Parts> parts_;
};

}  // namespace kv
