#pragma once

#include <boost/json/value.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace coppice::test {

using header_list = std::vector<std::pair<std::string, std::string>>;

/// A reply as a client sees it.
struct http_answer {
  unsigned status = 0;
  header_list headers;
  std::string body;
  bool keep_alive = false;

  /// The first of that name, in any case; empty: there is none.
  std::string header(std::string_view name) const;
  boost::json::value json() const;
};

/// A blocking HTTP/1.1 client on one kept connection; throws when the connection breaks.
class http_client {
public:
  explicit http_client(std::uint16_t port, std::string token = {});
  explicit http_client(const std::string& unix_socket);
  ~http_client();

  http_answer get(const std::string& target) {
    return request("GET", target);
  }
  http_answer head(const std::string& target) {
    return request("HEAD", target);
  }
  http_answer post(const std::string& target, std::string body) {
    return request("POST", target, std::move(body));
  }
  http_answer post(const std::string& target, const char* body) {
    return request("POST", target, body);
  }
  http_answer post(const std::string& target, const boost::json::value& body);

  http_answer request(const std::string& method, const std::string& target, std::string body = {},
                      const header_list& headers = {});

  void send(std::string_view bytes);

  http_answer read_answer(bool is_head = false);

  /// Whether the server has closed the connection and sent nothing more; blocks until it knows.
  bool is_closed_by_server();

  /// Some bytes as they come, at most 4 KiB; 0 when the connection has ended, however.
  std::size_t read_some();

  /// The client sends no more, and still reads.
  void finish_sending();

  void close();

private:
  /// The HTTP library is kept out of the tests: it takes long to compile.
  struct connection;
  std::unique_ptr<connection> connection_;
  std::string token_;
};

} // namespace coppice::test
