#include "chapters/server/http_server.hpp"

#include <sys/resource.h>

#include <algorithm>
#include <boost/asio.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <list>
#include <mutex>
#include <sstream>
#include <unordered_set>

#include "common/files/error.hpp"

namespace kv {
namespace {

namespace net = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using ErrorCode = beast::error_code;
using tcp = net::ip::tcp;

class Connection;

/// Every connection takes a file; some are left for the rest of the program.
index_t connections_allowed(index_t wanted) {
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) != 0) return std::min<index_t>(wanted, 256);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  getrlimit(RLIMIT_NOFILE, &files);
  constexpr index_t others = 64;
  return std::min<index_t>(wanted, files.rlim_cur > 2 * others ? files.rlim_cur - others : others);
}

/// As Beast writes it: a response, or its headers alone.
template <class Part>
std::string bytes_of(const Part& part) {
  std::ostringstream out;
  out << part;
  return out.str();
}

std::string chunk(std::string_view piece) {
  return beast::buffers_to_string(http::make_chunk(net::buffer(piece.data(), piece.size())));
}

HttpAnswer failure(http::status status, const std::string& message) {
  return {.status = static_cast<int>(status), .type = "text/plain; charset=utf-8", .body = message + "\n"};
}

}  // namespace

struct HttpServer::Parts : std::enable_shared_from_this<Parts> {
  HttpLimits limits;
  Gate gate;
  Handler handler;
  std::list<Connection*> idle;           // between two requests; the longest idle first
  std::unordered_set<Connection*> all;
  int stops = 0;
  bool running = false;
  net::io_context loop{1};               // all of the above belongs to the thread that runs it
  tcp::acceptor acceptor{loop};
  net::steady_timer pause{loop};
  net::signal_set signals{loop};
  net::thread_pool worker{1};

  void accept();
  bool close_longest_idle();
  void stop();
  void wait_for_signal();
  void rest_when_done();
};

namespace {

/// One client, from accept to close. Lives as long as it waits for something: every wait holds a reference.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(HttpServer::Parts& parts, tcp::socket socket) : parts_(parts), stream_(std::move(socket)) {
    ErrorCode ignored;
    stream_.socket().set_option(tcp::no_delay(true), ignored);
    stream_.socket().set_option(net::socket_base::keep_alive(true), ignored);  // finds who vanished without a word
    parts_.all.insert(this);
  }
  ~Connection() {
    leave_idle();
    parts_.all.erase(this);
    parts_.rest_when_done();
  }

  void await_request();
  void close() {
    leave_idle();
    closed_ = true;
    stream_.close();
  }
  /// The client has left, or is made to.
  void gone();

  // What an exchange asks for, in the server's thread.
  void send_whole(HttpAnswer answer);
  void send_headers(HttpAnswer answer);
  void send_piece(std::string_view piece) { send(chunked_ ? chunk(piece) : std::string(piece)); }
  void send_end();
  bool serves(const Exchange& exchange) const;

 private:
  class Client;

  bool failed(ErrorCode error);
  void header_came(ErrorCode error);
  void continue_with_body();
  void read_body();
  void body_came(ErrorCode error);
  void refuse(HttpAnswer answer);
  void watch();
  void watched(ErrorCode error, std::size_t bytes);
  template <class Body>
  void set_headers(http::response<Body>& response, const HttpAnswer& answer);
  void send(std::string bytes);
  void write();
  void after_answer();
  void discard();
  void leave_idle() {
    if (idle_) parts_.idle.erase(*std::exchange(idle_, std::nullopt));
  }

  HttpServer::Parts& parts_;
  beast::tcp_stream stream_;
  beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;  // of the request being read
  std::optional<std::list<Connection*>::iterator> idle_;
  std::shared_ptr<Client> exchange_;     // of the request being answered
  std::string out_, writing_;            // to be written, and being written
  bool closed_ = false, ended_ = false;  // ended: what is in out_ is the end of the answer
  bool keep_ = false;                    // the connection, after this answer
  bool chunked_ = false, head_ = false;
  bool watching_ = false;
  std::size_t discarded_ = 0;
};

/// What a handler holds of a connection. Neither keeps the other alive longer than the request.
class Connection::Client : public Exchange, public std::enable_shared_from_this<Client> {
 public:
  Client(std::weak_ptr<HttpServer::Parts> parts, std::weak_ptr<Connection> connection, HttpRequest request)
      : parts_(std::move(parts)), connection_(std::move(connection)), request_(std::move(request)) {}

  void set_body(std::string body) { request_.body = std::move(body); }
  const HttpRequest& request() const override { return request_; }
  void answer(HttpAnswer answer) override {
    tell([answer = std::move(answer)](Connection& c) mutable { c.send_whole(std::move(answer)); });
  }
  void begin(HttpAnswer headers) override {
    tell([headers = std::move(headers)](Connection& c) mutable { c.send_headers(std::move(headers)); });
  }
  void write(std::string piece) override {
    tell([piece = std::move(piece)](Connection& c) { c.send_piece(piece); });
  }
  void end() override {
    tell([](Connection& c) { c.send_end(); });
  }
  void when_left(std::function<void()> action) override {
    {
      const std::lock_guard lock(mutex_);
      if (!left_) {
        action_ = std::move(action);
        return;
      }
    }
    action();
  }

  void leave() {
    std::function<void()> action;
    {
      const std::lock_guard lock(mutex_);
      left_ = true;
      action = std::exchange(action_, {});
    }
    if (action) action();
  }

 private:
  template <class Action>
  void tell(Action action) {
    {
      const std::lock_guard lock(mutex_);
      if (left_) return;
    }
    const auto parts = parts_.lock();
    if (!parts) return;
    net::post(parts->loop, [self = shared_from_this(), action = std::move(action)]() mutable {
      const auto connection = self->connection_.lock();
      if (connection && connection->serves(*self)) action(*connection);
    });
  }

  std::weak_ptr<HttpServer::Parts> parts_;
  std::weak_ptr<Connection> connection_;
  HttpRequest request_;
  std::mutex mutex_;
  std::function<void()> action_;  // guarded by mutex_
  bool left_ = false;             // guarded by mutex_
};

bool Connection::serves(const Exchange& exchange) const { return exchange_.get() == &exchange; }

// ---- reading ----

void Connection::await_request() {
  if (parts_.stops > 0) return close();
  parser_.emplace();
  parser_->header_limit(static_cast<std::uint32_t>(parts_.limits.header_bytes));
  parser_->body_limit(parts_.limits.body_bytes);
  idle_ = parts_.idle.insert(parts_.idle.end(), this);
  stream_.expires_after(parts_.limits.header_time);  // once for all that is read of it: dripping does not help
  http::async_read_header(stream_, buffer_, *parser_,
                          [self = shared_from_this()](ErrorCode error, std::size_t) { self->header_came(error); });
}

/// Deals with a request that could not be read.
bool Connection::failed(ErrorCode error) {
  static const auto& of_http = ErrorCode(http::error::bad_method).category();
  if (closed_) return true;
  if (!error) return false;
  keep_ = false;
  if (error == http::error::body_limit)
    send_whole(failure(http::status::payload_too_large,
                       "the body has more than " + std::to_string(parts_.limits.body_bytes) + " bytes"));
  else if (error == http::error::header_limit)
    send_whole(failure(http::status::request_header_fields_too_large, "the headers are too long"));
  else if (error == http::error::end_of_stream || error.category() != of_http)
    close();  // it has left, or took too long
  else
    send_whole(failure(http::status::bad_request, "this is not HTTP: " + error.message()));
  return true;
}

void Connection::header_came(ErrorCode error) {
  leave_idle();
  if (failed(error)) return;
  const auto& message = parser_->get();
  const auto text = [&](http::field field) { return std::string(message[field]); };
  const std::string target(message.target());
  HttpRequest request{.method = std::string(message.method_string()),
                      .path = target.substr(0, target.find('?')),
                      .host = text(http::field::host),
                      .authorization = text(http::field::authorization),
                      .content_type = text(http::field::content_type),
                      .body = {}};
  head_ = message.method() == http::verb::head;
  chunked_ = message.version() >= 11;
  keep_ = message.keep_alive() && !head_;
  if (std::optional<HttpAnswer> refusal = parts_.gate(request)) return refuse(std::move(*refusal));
  exchange_ = std::make_shared<Client>(parts_.weak_from_this(), weak_from_this(), std::move(request));
  if (beast::iequals(message[http::field::expect], "100-continue") && !parser_->is_done()) return continue_with_body();
  read_body();
}

/// What is not read of a request would be taken for the next one.
void Connection::refuse(HttpAnswer answer) {
  keep_ = keep_ && parser_->is_done();
  send_whole(std::move(answer));
}

void Connection::continue_with_body() {
  static constexpr std::string_view line = "HTTP/1.1 100 Continue\r\n\r\n";
  stream_.expires_after(parts_.limits.write_time);
  net::async_write(stream_, net::buffer(line), [self = shared_from_this()](ErrorCode error, std::size_t) {
    if (!self->failed(error)) self->read_body();
  });
}

void Connection::read_body() {
  stream_.expires_after(parts_.limits.body_time);
  http::async_read(stream_, buffer_, *parser_,
                   [self = shared_from_this()](ErrorCode error, std::size_t) { self->body_came(error); });
}

void Connection::body_came(ErrorCode error) {
  if (failed(error)) return;
  if (parts_.stops > 0) return refuse(failure(http::status::service_unavailable, "the server is about to end"));
  exchange_->set_body(std::move(parser_->get().body()));
  watch();
  net::post(parts_.worker, [&parts = parts_, exchange = exchange_] {
    try {
      parts.handler(exchange);
    } catch (const std::exception& error) {
      exchange->answer(failure(http::status::internal_server_error, error.what()));
    }
  });
}

/// While an answer is made, the client is read from all the same: so it is seen when it leaves. One that says no more has
/// left too. What comes is the beginning of its next request.
void Connection::watch() {
  watching_ = true;
  stream_.expires_never();
  stream_.async_read_some(buffer_.prepare(4096), [self = shared_from_this()](ErrorCode error, std::size_t bytes) {
    self->watched(error, bytes);
  });
}

void Connection::watched(ErrorCode error, std::size_t bytes) {
  watching_ = false;
  if (closed_) return;
  if (!error) buffer_.commit(bytes);
  if (!exchange_) return after_answer();
  if (error || buffer_.size() > parts_.limits.header_bytes) return gone();
  watch();
}

void Connection::gone() {
  close();
  if (const auto exchange = std::exchange(exchange_, nullptr)) exchange->leave();
}

// ---- writing ----

template <class Body>
void Connection::set_headers(http::response<Body>& response, const HttpAnswer& answer) {
  keep_ = keep_ && parts_.stops == 0;
  response.result(static_cast<unsigned>(answer.status));
  response.version(chunked_ ? 11 : 10);
  response.set(http::field::content_type, answer.type);
  response.set(http::field::cache_control, "no-store");
  response.set("X-Content-Type-Options", "nosniff");
  for (const auto& [name, value] : answer.headers) response.set(name, value);
  response.keep_alive(keep_);
}

void Connection::send_whole(HttpAnswer answer) {
  http::response<http::string_body> response;
  set_headers(response, answer);
  if (!head_) response.body() = std::move(answer.body);
  response.prepare_payload();
  ended_ = true;
  send(bytes_of(response));
}

void Connection::send_headers(HttpAnswer answer) {
  keep_ = keep_ && chunked_;  // without chunks, the end of an answer is the end of the connection
  http::response<http::empty_body> response;
  set_headers(response, answer);
  response.chunked(chunked_);
  send(bytes_of(response.base()));
}

void Connection::send_end() {
  ended_ = true;
  send(chunked_ ? beast::buffers_to_string(http::make_chunk_last()) : std::string());
}

void Connection::send(std::string bytes) {
  if (closed_) return;
  out_ += bytes;
  if (out_.size() > parts_.limits.unread_bytes) return gone();
  if (writing_.empty()) write();
}

void Connection::write() {
  writing_ = std::exchange(out_, {});
  if (writing_.empty()) return after_answer();
  stream_.expires_after(parts_.limits.write_time);
  net::async_write(stream_, net::buffer(writing_), [self = shared_from_this()](ErrorCode error, std::size_t) {
    self->writing_.clear();
    if (self->closed_) return;
    if (error) return self->gone();
    if (!self->out_.empty()) return self->write();
    if (self->ended_) self->after_answer();
  });
}

/// On with the next request, or with the end of the connection. A reset would destroy an answer that the client has not
/// read yet, and comes when it still sends: so what it sends is read for a moment, and thrown away.
void Connection::after_answer() {
  exchange_.reset();
  if (watching_) return stream_.cancel();  // comes back from watched()
  ended_ = false;
  if (keep_) return await_request();
  ErrorCode ignored;
  stream_.socket().shutdown(tcp::socket::shutdown_send, ignored);
  stream_.expires_after(std::chrono::seconds(2));
  discard();
}

void Connection::discard() {
  buffer_.clear();
  stream_.async_read_some(buffer_.prepare(1 << 16), [self = shared_from_this()](ErrorCode error, std::size_t bytes) {
    self->discarded_ += bytes;
    if (error || self->discarded_ > 2 * self->parts_.limits.body_bytes) return self->close();
    self->discard();
  });
}

}  // namespace

// ---- the server ----

void HttpServer::Parts::accept() {
  acceptor.async_accept([this](ErrorCode error, tcp::socket socket) {
    if (stops > 0) return;
    if (error) {  // no more files, say
      close_longest_idle();
      pause.expires_after(std::chrono::milliseconds(10));
      return pause.async_wait([this](ErrorCode) { accept(); });
    }
    if (all.size() < limits.connections || close_longest_idle())
      std::make_shared<Connection>(*this, std::move(socket))->await_request();
    accept();
  });
}

bool HttpServer::Parts::close_longest_idle() {
  if (idle.empty()) return false;
  idle.front()->close();
  return true;
}

void HttpServer::Parts::stop() {
  ErrorCode ignored;
  acceptor.close(ignored);
  pause.cancel();
  ++stops;
  for (Connection* connection : std::list<Connection*>(idle)) connection->close();
  if (stops > 1)
    for (Connection* connection : std::unordered_set<Connection*>(all)) connection->gone();
  rest_when_done();
}

void HttpServer::Parts::wait_for_signal() {
  signals.async_wait([this](ErrorCode error, int) {
    if (error) return;
    wait_for_signal();
    stop();
  });
}

/// A wait for signals would keep the loop going.
void HttpServer::Parts::rest_when_done() {
  ErrorCode ignored;
  if (running && stops > 0 && all.empty()) signals.cancel(ignored);
}

HttpServer::HttpServer(const std::string& address, unsigned short port, HttpLimits limits, Gate gate, Handler handler)
    : parts_(std::make_shared<Parts>()) {
  limits.connections = connections_allowed(limits.connections);
  parts_->limits = limits;
  parts_->gate = std::move(gate);
  parts_->handler = std::move(handler);
  try {
    const tcp::endpoint endpoint(net::ip::make_address(address), port);
    parts_->acceptor.open(endpoint.protocol());
    parts_->acceptor.set_option(tcp::acceptor::reuse_address(true));
    parts_->acceptor.bind(endpoint);
    parts_->acceptor.listen(net::socket_base::max_listen_connections);
  } catch (const boost::system::system_error& error) {
    throw Error("cannot listen on " + address + ", port " + std::to_string(port) + ": " + error.code().message());
  }
}

HttpServer::~HttpServer() {
  parts_->worker.stop();
  parts_->worker.join();
}

unsigned short HttpServer::port() const { return parts_->acceptor.local_endpoint().port(); }

void HttpServer::run() {
  parts_->running = true;
  parts_->accept();
  parts_->loop.run();
  parts_->running = false;
}

void HttpServer::stop() {
  net::post(parts_->loop, [parts = parts_.get()] { parts->stop(); });
}

void HttpServer::stop_at_signals() {
  parts_->signals.add(SIGTERM);
  parts_->signals.add(SIGINT);
  parts_->wait_for_signal();
}

}  // namespace kv
