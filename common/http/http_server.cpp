#include "common/http/http_server.hpp"

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

/// Every connection takes a file; some are left for the rest of the program.
index_t connections_allowed(index_t wanted) {
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  getrlimit(RLIMIT_NOFILE, &files);  // it may have been refused
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

class Connection;

}  // namespace

struct HttpServer::Parts : std::enable_shared_from_this<Parts> {
  HttpLimits limits;
  Failure failure;
  Gate gate;
  Handler handler;
  std::list<Connection*> idle;  // of whom no whole request has come yet; the longest idle first
  std::unordered_set<Connection*> all;
  int stops = 0;
  net::io_context loop{1};  // all of the above belongs to the thread that runs it
  tcp::acceptor acceptor{loop};
  net::steady_timer pause{loop};
  net::signal_set signals{loop};
  net::thread_pool worker{1};

  void accept();
  bool close_longest_idle();
  void stop();
  void wait_for_signal();
};

namespace {

/// What a handler holds of a connection, for one request. Neither keeps the other alive.
class Client : public Exchange, public std::enable_shared_from_this<Client> {
 public:
  Client(std::weak_ptr<HttpServer::Parts> parts, std::weak_ptr<Connection> connection, HttpRequest request)
      : parts_(std::move(parts)), connection_(std::move(connection)), request_(std::move(request)) {}

  void set_body(std::string body) { request_.body = std::move(body); }
  const HttpRequest& request() const override { return request_; }
  void answer(HttpAnswer answer) override;
  void begin(HttpAnswer headers) override;
  void write(std::string piece) override;
  void end() override;
  void when_left(std::function<void()> action) override {
    std::unique_lock lock(mutex_);
    action_ = std::move(action);
    if (left_) act(std::move(lock));
  }
  void leave() {
    std::unique_lock lock(mutex_);
    left_ = true;
    act(std::move(lock));
  }

 private:
  void act(std::unique_lock<std::mutex> lock) {
    const std::function<void()> action = std::exchange(action_, {});
    lock.unlock();
    if (action) action();
  }
  template <class Action>
  void tell(Action action);

  std::weak_ptr<HttpServer::Parts> parts_;
  std::weak_ptr<Connection> connection_;
  HttpRequest request_;
  std::mutex mutex_;
  std::function<void()> action_;  // guarded by mutex_
  bool left_ = false;             // guarded by mutex_
};

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
  }

  void await_request() {
    if (parts_.stops > 0) return close();
    idle_ = parts_.idle.insert(parts_.idle.end(), this);
    if (buffer_.size() > 0) return read_header({});
    stream_.expires_after(parts_.limits.idle_time);
    read_some(&Connection::read_header);
  }
  /// Closes, unless the headers of a request have been read: that one is answered.
  void stop() { return client_ ? void() : close(); }
  void close() {
    leave_idle();
    closed_ = true;
    stream_.close();
  }
  /// The client has left, or is made to.
  void gone() {
    close();
    if (const auto client = std::exchange(client_, nullptr)) client->leave();
  }
  bool serves(const Client& client) const { return client_.get() == &client; }

  // What a client's handler asks for.

  void send_whole(HttpAnswer answer) {
    http::response<http::string_body> response;
    set_headers(response, answer);
    if (!head_) response.body() = std::move(answer.body);
    response.prepare_payload();
    ended_ = true;
    send(bytes_of(response));
  }
  void send_headers(const HttpAnswer& answer) {
    keep_ = keep_ && chunked_;  // without chunks, the end of an answer is the end of the connection
    http::response<http::empty_body> response;
    set_headers(response, answer);
    response.chunked(chunked_);
    send(bytes_of(response.base()));
  }
  void send_piece(const std::string& piece) {
    send(chunked_ ? beast::buffers_to_string(http::make_chunk(net::buffer(piece))) : piece);
  }
  void send_end() {
    ended_ = true;
    send(chunked_ ? beast::buffers_to_string(http::make_chunk_last()) : std::string());
  }

 private:
  // ---- reading ----

  /// Deals with a request that could not be read.
  bool failed(ErrorCode error) {
    static const auto& of_http = ErrorCode(http::error::bad_method).category();
    if (closed_ || !error) return closed_;
    keep_ = false;
    if (error == http::error::body_limit)
      send_whole(parts_.failure(413, "the body has more than " + std::to_string(parts_.limits.body_bytes) + " bytes"));
    else if (error == http::error::header_limit) send_whole(parts_.failure(431, "the headers are too long"));
    else if (error == http::error::end_of_stream || error.category() != of_http) close();  // it has left, or took too long
    else send_whole(parts_.failure(400, "this is not HTTP: " + error.message()));
    return true;
  }

  /// What comes next, of whatever it is.
  void read_some(void (Connection::*then)(ErrorCode)) {
    stream_.async_read_some(buffer_.prepare(4096), [self = shared_from_this(), then](ErrorCode error, std::size_t bytes) {
      self->buffer_.commit(bytes);
      ((*self).*then)(error);
    });
  }

  void read_header(ErrorCode error) {
    if (failed(error)) return;
    parser_.emplace();
    parser_->header_limit(static_cast<std::uint32_t>(parts_.limits.header_bytes));
    parser_->body_limit(parts_.limits.body_bytes);
    stream_.expires_after(parts_.limits.header_time);  // once for all that is read of it: dripping does not help
    http::async_read_header(stream_, buffer_, *parser_,
                            [self = shared_from_this()](ErrorCode error, std::size_t) { self->header_came(error); });
  }

  void header_came(ErrorCode error) {
    if (failed(error)) return;
    const auto& message = parser_->get();
    const auto text = [&](http::field field) { return std::string(message[field]); };
    const std::string target(message.target());
    HttpRequest request{.method = std::string(message.method_string()),
                        .path = target.substr(0, target.find('?')),
                        .host = text(http::field::host),
                        .authorization = text(http::field::authorization),
                        .content_type = text(http::field::content_type)};
    head_ = message.method() == http::verb::head;
    chunked_ = message.version() >= 11;
    keep_ = message.keep_alive() && !head_;
    if (std::optional<HttpAnswer> refusal = parts_.gate(request)) return refuse(std::move(*refusal));
    client_ = std::make_shared<Client>(parts_.weak_from_this(), weak_from_this(), std::move(request));
    const bool waits = beast::iequals(message[http::field::expect], "100-continue") && !parser_->is_done();
    waits ? ask_for_body() : read_body();
  }

  /// What is not read of a request would be taken for the next one.
  void refuse(HttpAnswer answer) {
    keep_ = keep_ && parser_->is_done();
    send_whole(std::move(answer));
  }

  void ask_for_body() {
    static constexpr std::string_view line = "HTTP/1.1 100 Continue\r\n\r\n";
    stream_.expires_after(parts_.limits.write_time);
    net::async_write(stream_, net::buffer(line), [self = shared_from_this()](ErrorCode error, std::size_t) {
      if (!self->failed(error)) self->read_body();
    });
  }

  void read_body() {
    stream_.expires_after(parts_.limits.body_time);
    http::async_read(stream_, buffer_, *parser_,
                     [self = shared_from_this()](ErrorCode error, std::size_t) { self->body_came(error); });
  }

  void body_came(ErrorCode error) {
    if (failed(error)) return;
    leave_idle();
    if (parts_.stops > 0) return refuse(parts_.failure(503, "the server is about to end"));
    client_->set_body(std::move(parser_->get().body()));
    watch();
    net::post(parts_.worker, [&parts = parts_, client = client_] {
      try {
        parts.handler(client);
      } catch (const std::exception& error) {
        client->answer(parts.failure(500, error.what()));
      }
    });
  }

  /// While an answer is made, the client is read from all the same: so it is seen when it leaves. One that says no more has
  /// left too. What comes is the beginning of its next request.
  void watch() {
    watching_ = true;
    stream_.expires_never();
    read_some(&Connection::watched);
  }

  // [watch]
  void watched(ErrorCode error) {
    watching_ = false;
    if (closed_) return;
    if (!client_) return after_answer();
    const std::size_t whole_request = parts_.limits.header_bytes + parts_.limits.body_bytes;
    if (error || buffer_.size() > whole_request) return gone();
    watch();
  }
  // [watch]

  void leave_idle() {
    if (idle_) parts_.idle.erase(*std::exchange(idle_, std::nullopt));
  }

  // ---- writing ----

  template <class Body>
  void set_headers(http::response<Body>& response, const HttpAnswer& answer) {
    keep_ = keep_ && parts_.stops == 0;
    response.result(static_cast<unsigned>(answer.status));
    response.version(chunked_ ? 11 : 10);
    response.set(http::field::content_type, answer.type);
    response.set(http::field::cache_control, "no-store");
    response.set("X-Content-Type-Options", "nosniff");
    for (const auto& [name, value] : answer.headers) response.set(name, value);
    response.keep_alive(keep_);
  }

  void send(std::string bytes) {
    if (closed_) return;
    leave_idle();
    out_ += bytes;
    if (out_.size() > parts_.limits.unread_bytes) return gone();
    if (writing_.empty()) write();
  }

  void write() {
    writing_ = std::exchange(out_, {});
    if (writing_.empty()) return after_answer();
    stream_.expires_after(parts_.limits.write_time);
    net::async_write(stream_, net::buffer(writing_), [self = shared_from_this()](ErrorCode error, std::size_t) {
      self->writing_.clear();
      if (self->closed_) return;
      if (error) return self->gone();
      if (!self->out_.empty() || self->ended_) self->write();
    });
  }

  /// On with the next request, or with the end of the connection. A reset would destroy an answer that the client has not
  /// read yet, and comes when it still sends: so what it sends is read for a moment, and thrown away.
  void after_answer() {
    client_.reset();
    if (watching_) return stream_.cancel();  // comes back from watched()
    ended_ = false;
    if (keep_) return await_request();
    ErrorCode ignored;
    stream_.socket().shutdown(tcp::socket::shutdown_send, ignored);
    stream_.expires_after(std::chrono::seconds(2));
    discard({});
  }

  void discard(ErrorCode error) {
    discarded_ += buffer_.size();
    buffer_.clear();
    error || discarded_ > 2 * parts_.limits.body_bytes ? close() : read_some(&Connection::discard);
  }

  HttpServer::Parts& parts_;
  beast::tcp_stream stream_;
  beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;  // of the request being read
  std::optional<std::list<Connection*>::iterator> idle_;
  std::shared_ptr<Client> client_;       // of the request being answered
  std::string out_, writing_;            // to be written, and being written
  bool closed_ = false, ended_ = false;  // ended: out_ is the end of the answer
  bool keep_ = false;                    // the connection, after this answer
  bool chunked_ = false, head_ = false;
  bool watching_ = false;
  std::size_t discarded_ = 0;
};

template <class Action>
void Client::tell(Action action) {
  const auto parts = parts_.lock();
  if (!parts) return;
  net::post(parts->loop, [self = shared_from_this(), action = std::move(action)] {
    const auto connection = self->connection_.lock();
    if (connection && connection->serves(*self)) action(*connection);
  });
}

void Client::answer(HttpAnswer answer) {
  tell([answer = std::move(answer)](Connection& connection) { connection.send_whole(answer); });
}
void Client::begin(HttpAnswer headers) {
  tell([headers = std::move(headers)](Connection& connection) { connection.send_headers(headers); });
}
void Client::write(std::string piece) {
  tell([piece = std::move(piece)](Connection& connection) { connection.send_piece(piece); });
}
void Client::end() { tell(std::mem_fn(&Connection::send_end)); }

}  // namespace

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
  for (Connection* connection : std::list<Connection*>(idle)) connection->stop();
  if (stops > 1)
    for (Connection* connection : std::unordered_set<Connection*>(all)) connection->gone();
}

void HttpServer::Parts::wait_for_signal() {
  signals.async_wait([this](ErrorCode error, int) {
    if (error) return;
    wait_for_signal();
    stop();
  });
}

HttpServer::HttpServer(const std::string& address, unsigned short port, HttpLimits limits, Failure failure, Gate gate,
                       Handler handler)
    : parts_(std::make_shared<Parts>()) {
  limits.connections = connections_allowed(limits.connections);
  parts_->limits = limits;
  parts_->failure = std::move(failure);
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
  parts_->accept();
  while (parts_->stops == 0 || !parts_->all.empty()) parts_->loop.run_one();  // a wait for signals goes on for ever
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
