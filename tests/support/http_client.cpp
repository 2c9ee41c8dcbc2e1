#include "tests/support/http_client.hpp"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <stdexcept>
#include <utility>

namespace kv::test {

Connection::Connection(unsigned short port) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (socket_ < 0 || ::connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    close();
    throw std::runtime_error("no connection");
  }
}

Connection::~Connection() { close(); }
Connection::Connection(Connection&& other) noexcept : socket_(std::exchange(other.socket_, -1)), rest_(std::move(other.rest_)) {}

bool Connection::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

void Connection::half_close() { ::shutdown(socket_, SHUT_WR); }

void Connection::close(bool reset) {
  if (socket_ < 0) return;
  const linger at_once{1, 0};
  if (reset) ::setsockopt(socket_, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  ::close(std::exchange(socket_, -1));
}

std::string Connection::receive(std::size_t most, std::chrono::milliseconds patience) {
  if (!rest_.empty()) return std::exchange(rest_, {});
  pollfd wait{socket_, POLLIN, 0};
  if (::poll(&wait, 1, static_cast<int>(patience.count())) <= 0) return "";
  std::string bytes(most, '\0');
  const ssize_t received = ::recv(socket_, bytes.data(), bytes.size(), 0);
  bytes.resize(received > 0 ? static_cast<std::size_t>(received) : 0);
  return bytes;
}

std::string Connection::receive_until(std::string_view mark) {
  std::string all;
  while (all.find(mark) == all.npos) {
    const std::string more = receive();
    if (more.empty()) return all;
    all += more;
  }
  const std::size_t end = all.find(mark) + mark.size();
  rest_ = all.substr(end);
  return all.substr(0, end);
}

std::string Connection::receive_all() {
  std::string all;
  for (std::string more = receive(); !more.empty(); more = receive()) all += more;
  return all;
}

bool Connection::closes_within(std::chrono::milliseconds time) {
  const auto end = std::chrono::steady_clock::now() + time;
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
    if (left.count() <= 0) return false;
    pollfd wait{socket_, POLLIN, 0};
    if (::poll(&wait, 1, static_cast<int>(left.count())) <= 0) return false;
    char bytes[4096];
    if (::recv(socket_, bytes, sizeof bytes, 0) <= 0) return true;
  }
}

namespace {

std::string request(std::string_view method, std::string_view path, std::string_view more_headers) {
  return std::string(method) + " " + std::string(path) + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + std::string(more_headers);
}

std::string without_chunk_marks(std::string_view chunks) {
  std::string body;
  for (;;) {
    const std::size_t line = chunks.find("\r\n");
    if (line == chunks.npos) return body + "(cut)";
    const std::size_t size = std::stoul(std::string(chunks.substr(0, line)), nullptr, 16);
    if (size == 0) return body;
    body += chunks.substr(line + 2, size);
    if (chunks.size() < line + 2 + size + 2) return body + "(cut)";
    chunks.remove_prefix(line + 2 + size + 2);
  }
}

}  // namespace

std::string http_post(std::string_view path, std::string_view body, std::string_view more_headers) {
  const std::string type = more_headers.find("Content-Type") == more_headers.npos ? "Content-Type: application/json\r\n" : "";
  return request("POST", path, more_headers) + type + "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + std::string(body);
}

std::string http_get(std::string_view path, std::string_view more_headers) { return request("GET", path, more_headers) + "\r\n"; }

Reply read_reply(std::string_view bytes) {
  const std::size_t end = bytes.find("\r\n\r\n");
  if (!bytes.starts_with("HTTP/1.") || end == bytes.npos) return {};
  Reply reply{.status = std::stoi(std::string(bytes.substr(9, 3))),
              .headers = std::string(bytes.substr(0, end + 2)),
              .body = std::string(bytes.substr(end + 4))};
  if (reply.headers.find("Transfer-Encoding: chunked") != reply.headers.npos) reply.body = without_chunk_marks(reply.body);
  return reply;
}

Reply ask(unsigned short port, std::string_view request) {
  Connection connection(port);
  connection.send(request);
  return read_reply(connection.receive_all());
}

}  // namespace kv::test
