#pragma once
/// @file
/// A client of an HTTP server that does as it is told, also what no good client would do.
#include <chrono>
#include <string>
#include <string_view>

namespace kv::test {

/// A connection to a port of this machine.
class Connection {
 public:
  explicit Connection(unsigned short port);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection(Connection&& other) noexcept;

  /// @return whether all of it went out
  bool send(std::string_view bytes);
  /// Says no more, but still listens.
  void half_close();
  /// Leaves; with a reset, and not with a word of farewell, if so asked.
  void close(bool reset = false);
  /// What comes next, at most so many bytes; empty: the other side has closed, or nothing came in time.
  std::string receive(std::size_t most = 1 << 16, std::chrono::milliseconds patience = std::chrono::seconds(30));
  /// All up to and with a mark; what comes behind it stays. What there was if it never comes.
  std::string receive_until(std::string_view mark);
  /// All until the other side closes.
  std::string receive_all();
  /// Whether the other side closes the connection in this time.
  bool closes_within(std::chrono::milliseconds time);

 private:
  int socket_;
  std::string rest_;
};

struct Reply {
  int status = 0;       ///< 0: none came
  std::string headers;  ///< all lines
  std::string body;     ///< without the marks of its chunks
};

std::string http_post(std::string_view path, std::string_view body, std::string_view more_headers = "");
std::string http_get(std::string_view path, std::string_view more_headers = "");
/// Takes apart what came on a connection.
Reply read_reply(std::string_view bytes);
/// One request on a connection of its own.
Reply ask(unsigned short port, std::string_view request);

}  // namespace kv::test
