#include "gateway/cli/admin_client.hpp"

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>

#include <functional>

namespace coppice::cli {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;

using stream = beast::basic_stream<asio::local::stream_protocol, asio::io_context::executor_type>;

constexpr std::size_t answer_bytes_max = 1u << 20;

/// Runs one asynchronous step to its end; the stream's own deadline bounds it.
template <class Start>
beast::error_code finished(asio::io_context& loop, Start&& start) {
  beast::error_code outcome;
  start([&outcome](beast::error_code error, auto&&...) { outcome = error; });
  loop.restart();
  loop.run();
  return outcome;
}

failure unreachable(const std::filesystem::path& socket, const beast::error_code& error) {
  auto text = "no daemon answers on " + socket.string() + " (" + error.message() + "). ";
  if (error == asio::error::access_denied) {
    text += "Run this as the user that runs the daemon, or as root";
  } else {
    text += "Start it with 'coppice serve', or name its folder with --state-dir";
  }
  return {error, text};
}

} // namespace

result<admin_client::answer> admin_client::request(const std::string& method,
                                                   const std::string& target,
                                                   const std::string& body,
                                                   std::chrono::seconds deadline) const {
  asio::local::stream_protocol::endpoint endpoint;
  try {
    endpoint = asio::local::stream_protocol::endpoint{socket_.string()};
  } catch (const boost::system::system_error& e) {
    return failure{e.code(), "the path of the admin socket is too long: " + socket_.string()};
  }
  asio::io_context loop{1};
  stream connection{loop.get_executor()};
  connection.expires_after(deadline);
  if (auto error =
          finished(loop, [&](auto done) { connection.async_connect(endpoint, std::move(done)); })) {
    return unreachable(socket_, error);
  }
  http::request<http::string_body> message{http::string_to_verb(method), target, 11};
  message.set(http::field::host, "localhost");
  message.set("Project", project_);
  message.keep_alive(false);
  if (!body.empty()) {
    message.set(http::field::content_type, "application/json");
    message.body() = body;
  }
  message.prepare_payload();
  auto error =
      finished(loop, [&](auto done) { http::async_write(connection, message, std::move(done)); });
  beast::flat_buffer buffer;
  http::response_parser<http::string_body> parser;
  parser.body_limit(answer_bytes_max);
  if (!error) {
    error = finished(
        loop, [&](auto done) { http::async_read(connection, buffer, parser, std::move(done)); });
  }
  if (error) {
    return failure{error, "the daemon did not answer " + method + " " + target + ": " +
                              error.message() + ". Its log may say more"};
  }
  return answer{parser.get().result_int(), std::move(parser.get().body())};
}

} // namespace coppice::cli
