#pragma once

#include "tests/support/http_client.hpp"

#include <boost/json/value.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// Server-sent events as a client sees them.
namespace coppice::test {

/// One frame; a comment has only `comment`.
struct sse_frame {
  std::optional<std::uint64_t> id;
  std::string event;
  std::string data;
  std::string comment;

  boost::json::value json() const;
};

/// Takes bytes as they come and gives whole frames.
class sse_parser {
public:
  void feed(std::string_view bytes) {
    text_ += bytes;
  }

  std::optional<sse_frame> next();

  bool is_empty() const {
    return text_.empty();
  }

private:
  std::string text_;
};

/// A blocking reader of one stream on a connection of its own.
class event_stream {
public:
  event_stream(std::uint16_t port, const std::string& token, const std::string& target,
               const header_list& headers = {});
  ~event_stream();

  /// The client sends no more, and still reads.
  void finish_sending();

  unsigned status();
  std::string header(std::string_view name);

  /// Blocks until there is a frame; nothing at the end of the stream.
  std::optional<sse_frame> next_frame();

  /// The next frame that is no comment.
  std::optional<sse_frame> next_event();

  std::vector<sse_frame> rest();

  /// Not empty: the stream ended without a proper end of its chunks.
  const std::string& broken() const {
    return broken_;
  }

  void close();

private:
  struct connection;
  std::unique_ptr<connection> connection_;
  sse_parser frames_;
  std::string broken_;
};

/// `stdout#3` and so on: what tests of order look at.
std::vector<std::string> names_of(const std::vector<sse_frame>& frames);

} // namespace coppice::test
