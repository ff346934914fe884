#include "gateway/http/connection.hpp"
#include "tests/gateway/server_fixture.hpp"
#include "tests/support/gunzip.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/connect_pair.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace coppice;
using namespace coppice::gateway;
using namespace coppice::test;

// One connection over a pair of sockets, with bodies that the test makes piece by piece.

namespace {

/// A body whose pieces come when the test says so; an empty one ends it.
class fed_source : public body_source {
public:
  struct feed {
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<std::string> pieces;
    std::vector<cancel_reason> cancels;
    std::string last_words; ///< given after a cancel
    asio::steady_timer* bell = nullptr;
    bool is_cancelled = false;
  };

  fed_source(asio::io_context& loop, feed& from) : bell_{loop}, feed_{from} {
    std::scoped_lock lock{feed_.mutex};
    feed_.bell = &bell_;
  }
  ~fed_source() override {
    std::scoped_lock lock{feed_.mutex};
    feed_.bell = nullptr;
  }

  asio::awaitable<answer<std::string>> next() override {
    for (;;) {
      {
        std::scoped_lock lock{feed_.mutex};
        if (!feed_.pieces.empty()) {
          auto piece = std::move(feed_.pieces.front());
          feed_.pieces.pop_front();
          co_return piece;
        }
        if (feed_.is_cancelled && feed_.cancels.back() == cancel_reason::client_gone) {
          co_return refusal{500, "the client has gone"};
        }
        if (feed_.is_cancelled) {
          co_return std::exchange(feed_.last_words, {});
        }
      }
      bell_.expires_at(asio::steady_timer::time_point::max());
      boost::system::error_code rung;
      co_await bell_.async_wait(asio::redirect_error(asio::use_awaitable, rung));
    }
  }

  void cancel(cancel_reason why) override {
    std::scoped_lock lock{feed_.mutex};
    feed_.cancels.push_back(why);
    feed_.is_cancelled = true;
    feed_.changed.notify_all();
    bell_.cancel();
  }

private:
  asio::steady_timer bell_;
  feed& feed_;
};

struct connection_fixture : server_fixture {
  explicit connection_fixture(bool is_over_tcp = false) : shared{inside.services()} {
    stream_socket here{loop};
    if (is_over_tcp) {
      asio::ip::tcp::acceptor listener{loop, {asio::ip::address_v4::loopback(), 0}};
      socket.connect(listener.local_endpoint());
      here = listener.accept();
    } else {
      asio::local::stream_protocol::socket one{loop};
      asio::local::stream_protocol::socket other{client_loop};
      asio::local::connect_pair(one, other);
      here = std::move(one);
      socket = std::move(other);
    }
    served.emplace(std::move(here), nullptr, shared);
  }

  ~connection_fixture() {
    asio::post(loop, [this] { served->close(); });
    finish();
    served.reset();
  }

  void finish() {
    if (thread.joinable()) {
      thread.join();
    }
  }

  /// Answers one request with what `make` gives.
  void serve(std::function<reply()> make) {
    asio::co_spawn(loop, answer_one(std::move(make)), asio::detached);
    thread = std::thread{[this] {
      loop.run();
    }};
  }

  asio::awaitable<void> answer_one(std::function<reply()> make) {
    auto came = co_await served->read_request();
    if (came == connection::arrival::request) {
      auto out = make();
      result = co_await served->write_reply(out, {"id", {}, false});
    }
    served->close();
  }

  reply live() {
    reply out;
    out.content_type = "text/event-stream";
    out.is_live = true;
    out.stream = std::make_unique<fed_source>(loop, feed);
    return out;
  }

  void give(std::string piece) {
    asio::post(loop, [this, piece = std::move(piece)] {
      std::scoped_lock lock{feed.mutex};
      feed.pieces.push_back(piece);
      if (feed.bell) {
        feed.bell->cancel();
      }
    });
  }

  void ask(const std::string& headers = {}) {
    asio::write(socket, asio::buffer("GET / HTTP/1.1\r\nHost: x\r\n" + headers + "\r\n"));
  }

  std::string read_until(const std::string& end) {
    auto bytes = asio::read_until(socket, asio::dynamic_buffer(received), end);
    auto out = received.substr(0, bytes);
    received.erase(0, bytes);
    return out;
  }

  /// The content of the next chunk; empty for the last.
  std::string read_chunk() {
    auto size = std::stoul(read_until("\r\n"), nullptr, 16);
    if (received.size() < size + 2) {
      asio::read(socket, asio::dynamic_buffer(received),
                 asio::transfer_exactly(size + 2 - received.size()));
    }
    auto out = received.substr(0, size);
    received.erase(0, size + 2);
    return out;
  }

  asio::io_context loop;
  asio::io_context client_loop;
  context shared;
  std::optional<connection> served;
  stream_socket socket{client_loop};
  std::string received;
  fed_source::feed feed;
  connection::written result;
  std::thread thread;
};

struct tcp_connection_fixture : connection_fixture {
  tcp_connection_fixture() : connection_fixture{true} {}
};

/// Gives a piece that is too large to be held back, then meets a defect.
class defective_source : public body_source {
public:
  explicit defective_source(bool is_at_once) : has_begun_{is_at_once} {}
  asio::awaitable<answer<std::string>> next() override {
    if (has_begun_) {
      throw std::runtime_error{"a defect"};
    }
    has_begun_ = true;
    co_return std::string(100'000, 'x');
  }

private:
  bool has_begun_;
};

reply defective(bool is_at_once) {
  reply out;
  out.stream = std::make_unique<defective_source>(is_at_once);
  return out;
}

} // namespace

BOOST_FIXTURE_TEST_SUITE(connections, connection_fixture)

BOOST_AUTO_TEST_CASE(a_live_reply_is_heard_before_its_first_piece) {
  serve([this] { return live(); });
  ask();
  auto head = read_until("\r\n\r\n");
  BOOST_TEST(head.starts_with("HTTP/1.1 200"));
  BOOST_TEST(mentions(head, "Transfer-Encoding: chunked"));
  for (const auto* piece : {"one", "two", "three"}) {
    give(piece);
    BOOST_TEST(read_chunk() == piece);
  }
  give("");
  BOOST_TEST(read_chunk().empty());
  finish();
  BOOST_TEST(result.is_complete);
  BOOST_TEST(result.keep_alive);
  BOOST_TEST(feed.cancels.empty());
}

BOOST_AUTO_TEST_CASE(each_piece_of_a_compressed_live_reply_can_be_read_when_it_is_there) {
  serve([this] { return live(); });
  ask("Accept-Encoding: gzip\r\n");
  auto head = read_until("\r\n\r\n");
  BOOST_TEST(mentions(head, "Content-Encoding: gzip"));
  BOOST_TEST(mentions(head, "Vary: Accept-Encoding"));
  gunzip reader;
  for (const auto* piece : {"id: 0\ndata: one\n\n", "id: 1\ndata: two\n\n", ": keepalive\n\n"}) {
    give(piece);
    BOOST_TEST(reader.read(read_chunk()) == piece);
  }
  give("");
  BOOST_TEST(reader.read(read_chunk()).empty());
  BOOST_TEST(reader.is_ended());
  BOOST_TEST(read_chunk().empty());
}

BOOST_AUTO_TEST_CASE(a_live_reply_is_told_when_its_client_goes) {
  serve([this] { return live(); });
  ask();
  read_until("\r\n\r\n");
  socket.close();
  finish(); // ends only if the source was told
  BOOST_REQUIRE(feed.cancels.size() == 1u);
  BOOST_TEST((feed.cancels[0] == body_source::cancel_reason::client_gone));
  BOOST_TEST(!result.is_complete);
}

BOOST_AUTO_TEST_CASE(a_next_request_during_a_live_reply_is_no_end) {
  serve([this] { return live(); });
  ask();
  read_until("\r\n\r\n");
  ask();
  give("one");
  BOOST_TEST(read_chunk() == "one");
  give("two");
  BOOST_TEST(read_chunk() == "two");
  BOOST_TEST(feed.cancels.empty());
  give("");
  BOOST_TEST(read_chunk().empty());
}

BOOST_AUTO_TEST_CASE(a_live_reply_ends_in_order_when_the_server_stops) {
  feed.last_words = "event: sse_error\n\n";
  serve([this] { return live(); });
  ask("Accept-Encoding: gzip\r\n");
  read_until("\r\n\r\n");
  asio::post(loop, [this] { served->wind_down(); });
  gunzip reader;
  BOOST_TEST(reader.read(read_chunk()) == "event: sse_error\n\n");
  reader.read(read_chunk());
  BOOST_TEST(reader.is_ended());
  BOOST_TEST(read_chunk().empty());
  finish();
  BOOST_TEST(result.is_complete);
  BOOST_TEST((feed.cancels == std::vector{body_source::cancel_reason::stopping}));
}

BOOST_AUTO_TEST_CASE(a_stream_that_is_not_live_fails_with_a_status_before_it_began) {
  class broken : public body_source {
  public:
    asio::awaitable<answer<std::string>> next() override {
      co_return refusal{410, "gone"};
    }
  };
  serve([] {
    reply out;
    out.stream = std::make_unique<broken>();
    return out;
  });
  ask();
  BOOST_TEST(read_until("\r\n\r\n").starts_with("HTTP/1.1 410"));
}

BOOST_AUTO_TEST_CASE(small_and_already_sized_bodies_are_not_compressed) {
  serve([] { return reply{200, std::string(500, ' ')}; });
  ask("Accept-Encoding: gzip\r\n");
  auto head = read_until("\r\n\r\n");
  BOOST_TEST(mentions(head, "Content-Length: 500\r\n"));
  BOOST_TEST(!mentions(head, "Content-Encoding"));
}

BOOST_AUTO_TEST_CASE(bodies_are_compressed_whole_or_in_chunks) {
  for (std::size_t size : {2'000u, 60'000u}) {
    connection_fixture one;
    one.serve([size] { return reply{200, std::string(size, ' ')}; });
    one.ask("Accept-Encoding: deflate, gzip;q=0.3\r\n");
    auto head = one.read_until("\r\n\r\n");
    BOOST_TEST(mentions(head, "Content-Encoding: gzip\r\n"));
    auto at = head.find("Content-Length: ");
    BOOST_REQUIRE(at != head.npos);
    auto length = std::stoul(head.substr(at + 16));
    BOOST_TEST(length < size / 10);
    asio::read(one.socket, asio::dynamic_buffer(one.received),
               asio::transfer_exactly(length - one.received.size()));
    gunzip reader;
    BOOST_TEST((reader.read(one.received) == std::string(size, ' ')));
    BOOST_TEST(reader.is_ended());
  }
  serve([] { return reply{200, std::string(1'000'000, ' ')}; });
  ask("Accept-Encoding: gzip\r\n");
  auto head = read_until("\r\n\r\n");
  BOOST_TEST(mentions(head, "Transfer-Encoding: chunked"));
  gunzip reader;
  std::string all;
  while (!reader.is_ended()) {
    all += reader.read(read_chunk());
  }
  BOOST_TEST((all == std::string(1'000'000, ' ')));
  BOOST_TEST(read_chunk().empty());
}

BOOST_AUTO_TEST_CASE(a_client_that_cannot_read_gzip_is_told_that_others_can) {
  serve([] { return reply{200, std::string(2'000, ' ')}; });
  ask("Accept-Encoding: identity\r\n");
  auto head = read_until("\r\n\r\n");
  BOOST_TEST(mentions(head, "Content-Length: 2000\r\n"));
  BOOST_TEST(mentions(head, "Vary: Accept-Encoding\r\n"));
}

BOOST_AUTO_TEST_CASE(compressing_stops_when_too_many_do) {
  memory_budget::lease all{shared.gzip_memory};
  while (all.extend(1024)) {
    // until nothing is left
  }
  serve([] { return reply{200, std::string(2'000, ' ')}; });
  ask("Accept-Encoding: gzip\r\n");
  auto head = read_until("\r\n\r\n");
  BOOST_TEST(mentions(head, "Content-Length: 2000\r\n"));
  finish();
}

BOOST_AUTO_TEST_CASE(others_have_their_turn_while_requests_are_there_already) {
  constexpr int requests = 100; // these and their answers fit into the buffers of the sockets
  for (int i = 0; i < requests; ++i) {
    ask();
  }
  int answered = 0;
  int seen = 0;
  int most_in_a_turn = 0;
  std::function<void()> other = [&] {
    most_in_a_turn = std::max(most_in_a_turn, answered - std::exchange(seen, answered));
    if (answered < requests) {
      asio::post(loop, other);
    }
  };
  const auto answer_all = [&]() -> asio::awaitable<void> {
    while (answered < requests) {
      co_await served->read_request();
      reply out{200, "{}"};
      co_await served->write_reply(out, {"id", {}, false});
      ++answered;
    }
  };
  asio::co_spawn(loop, answer_all(), asio::detached);
  asio::post(loop, other);
  loop.run();
  loop.restart();
  BOOST_TEST(answered == requests);
  BOOST_TEST(most_in_a_turn <= 32);
}

BOOST_AUTO_TEST_CASE(a_defect_of_a_body_is_a_500_before_it_began_and_a_broken_reply_later) {
  serve([] { return defective(true); });
  ask();
  BOOST_TEST(read_until("\r\n\r\n").starts_with("HTTP/1.1 500"));
  finish();
  BOOST_TEST(result.status == 500u);
  connection_fixture later;
  later.serve([] { return defective(false); });
  later.ask();
  BOOST_TEST(later.read_until("\r\n\r\n").starts_with("HTTP/1.1 200"));
  BOOST_TEST(later.read_chunk().size() == 100'000u);
  boost::system::error_code error;
  asio::read(later.socket, asio::dynamic_buffer(later.received), error);
  BOOST_TEST(later.received.empty());
  later.finish();
  BOOST_TEST(!later.result.is_complete);
}

BOOST_FIXTURE_TEST_CASE(an_old_client_sees_that_its_body_broke_off, tcp_connection_fixture) {
  serve([] { return defective(false); });
  asio::write(socket, asio::buffer(std::string{"GET / HTTP/1.0\r\n\r\n"}));
  boost::system::error_code error;
  asio::read(socket, asio::dynamic_buffer(received), error);
  BOOST_TEST(error == asio::error::connection_reset);
}

BOOST_AUTO_TEST_SUITE_END()
