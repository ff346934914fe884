#define BOOST_TEST_MODULE followers
#include "tests/integration/node.hpp"
#include "tests/integration/processes.hpp"

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <boost/test/unit_test.hpp>

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <list>
#include <random>
#include <string>
#include <vector>

// Many clients follow many operations at once; some lose their connections, some do not read.

using namespace coppice::test;
namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
namespace json = boost::json;

namespace {

const bool is_full = std::getenv("COPPICE_TEST_FULL") != nullptr;

/// What is kept of an event: its data, shortened.
using seen_events = std::vector<std::size_t>;

std::size_t digest_of(const std::string& data) {
  return std::hash<std::string>{}(data);
}

/// One client that follows an operation to its completion, with as many connections as it takes.
class follower {
public:
  follower(asio::io_context& loop, const node& server, std::string operation, unsigned seed,
           bool loses_connections)
      : socket_{loop}, pause_{loop}, server_{server},
        operation_{std::move(operation)}, random_{seed}, loses_connections_{loses_connections} {}

  asio::awaitable<void> run() {
    while (!is_over_) {
      co_await follow_once();
      if (!is_over_ && !is_cut_) {
        ++breaks_; // by the server: too busy to admit one more, say
        boost::system::error_code ignored;
        pause_.expires_after(std::chrono::milliseconds{100});
        co_await pause_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
      }
    }
  }

  bool is_over() const {
    return is_over_;
  }
  const std::string& operation() const {
    return operation_;
  }
  const seen_events& seen() const {
    return seen_;
  }
  /// Empty: each event came once and in order.
  const std::string& complaint() const {
    return complaint_;
  }
  int breaks() const {
    return breaks_;
  }

private:
  std::string request() const {
    std::string out = "GET /v1/operations/" + operation_ + "/events?follow=1 HTTP/1.1\r\n" +
                      "Host: localhost\r\nAuthorization: Bearer " + server_.own_token() + "\r\n";
    if (!seen_.empty()) {
      out += "Last-Event-Id: " + std::to_string(seen_.size() - 1) + "\r\n";
    }
    return out + "\r\n";
  }

  asio::awaitable<void> follow_once() {
    beast::error_code error;
    auto token = asio::redirect_error(asio::use_awaitable, error);
    is_cut_ = false;
    auto left = loses_connections_ ? 1 + random_() % 8 : UINT64_MAX;
    socket_ = asio::ip::tcp::socket{socket_.get_executor()};
    const asio::ip::tcp::endpoint address{asio::ip::address_v4::loopback(), server_.port()};
    co_await socket_.async_connect(address, token);
    if (!error) {
      const auto text = request();
      co_await asio::async_write(socket_, asio::buffer(text), token);
    }
    http::response_parser<http::buffer_body> parser;
    beast::flat_buffer buffer;
    parser.body_limit(boost::none);
    if (!error) {
      co_await http::async_read_header(socket_, buffer, parser, token);
    }
    sse_parser frames;
    std::vector<char> piece(16384);
    while (!error && parser.get().result() == http::status::ok && !parser.is_done()) {
      parser.get().body().data = piece.data();
      parser.get().body().size = piece.size();
      co_await http::async_read_some(socket_, buffer, parser, token);
      error = error == http::error::need_buffer ? beast::error_code{} : error;
      frames.feed({piece.data(), piece.size() - parser.get().body().size});
      for (auto frame = frames.next(); frame && left > 0; frame = frames.next()) {
        left -= take(*frame) ? 1 : 0;
      }
      if (left == 0) {
        is_cut_ = true;
        socket_.close();
        co_return;
      }
    }
  }

  bool take(const sse_frame& frame) {
    if (!frame.id) {
      return false;
    }
    if (*frame.id != seen_.size() && complaint_.empty()) {
      complaint_ = "event " + std::to_string(*frame.id) + " came behind " +
                   std::to_string(seen_.size()) + " events";
    }
    seen_.push_back(digest_of(frame.data));
    is_over_ = frame.event == "completion";
    return true;
  }

  asio::ip::tcp::socket socket_;
  asio::steady_timer pause_;
  const node& server_;
  std::string operation_;
  std::mt19937 random_;
  bool loses_connections_;
  bool is_cut_ = false;
  bool is_over_ = false;
  int breaks_ = 0;
  seen_events seen_;
  std::string complaint_;
};

/// Follows and never reads.
class sleeper {
public:
  sleeper(asio::io_context& loop, const node& server, const std::string& operation)
      : socket_{loop, asio::ip::tcp::v4()} {
    socket_.set_option(asio::socket_base::receive_buffer_size{4096});
    socket_.connect({asio::ip::address_v4::loopback(), server.port()});
    const auto text = "GET /v1/operations/" + operation + "/events?follow=1 HTTP/1.1\r\n" +
                      "Host: localhost\r\nAuthorization: Bearer " + server.own_token() + "\r\n\r\n";
    asio::write(socket_, asio::buffer(text));
  }

private:
  asio::ip::tcp::socket socket_;
};

/// Runs the loop until all are through; fails when nothing comes for as long as a wait may take.
void run_to_the_end(asio::io_context& loop, const std::list<follower>& all,
                    const std::function<void()>& look) {
  auto events = [&] {
    std::size_t out = 0;
    for (const auto& each : all) {
      out += each.seen().size();
    }
    return out;
  };
  auto is_through = [&] {
    return std::all_of(all.begin(), all.end(), [](const auto& each) { return each.is_over(); });
  };
  std::size_t before = 0;
  auto deadline = std::chrono::steady_clock::now() + patience();
  while (!is_through()) {
    loop.run_for(std::chrono::seconds{1});
    look();
    const auto now = events();
    if (now != before) {
      before = now;
      deadline = std::chrono::steady_clock::now() + patience();
    }
    BOOST_REQUIRE_MESSAGE(std::chrono::steady_clock::now() < deadline,
                          "no event came for " << patience().count() << " s");
  }
}

long anonymous_kib(const node& server) {
  return std::stol(status_of_process(server.pid(), "RssAnon"));
}

seen_events replay_of(const node& server, const std::string& operation) {
  seen_events out;
  for (const auto& frame : server.events(operation).rest()) {
    BOOST_REQUIRE(frame.id.value_or(UINT64_MAX) == out.size());
    out.push_back(digest_of(frame.data));
  }
  return out;
}

json::object quick_run(const std::string& base) {
  return {{"command", "for i in $(seq 1 20); do echo line $i; sleep 0.05; done"},
          {"shell", true},
          {"image", base},
          {"disposable", true}};
}

} // namespace

BOOST_AUTO_TEST_CASE(a_crowd_of_followers_sees_every_event_once_and_in_order) {
  const std::size_t operations_count = is_full ? 50 : 8;
  const std::size_t followers_count = is_full ? 1000 : 80;
  const std::string slots = is_full ? "8" : "2";
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files); // a connection each, here and in the daemon
  BOOST_REQUIRE(files.rlim_cur > 2 * followers_count);

  state_folder folder;
  node server{folder.path(),
              {"--vm.running_max=" + slots, "--vm.cpus_max=" + slots, "--pool.ceiling=2"}};
  const auto base = server.import_busybox();
  std::vector<std::string> operations;
  operations.push_back(server.spawn(quick_run(base)));
  server.wait(operations.front()); // one that is over when it is followed
  const auto memory_before = anonymous_kib(server);
  while (operations.size() < operations_count) {
    operations.push_back(server.spawn(quick_run(base)));
  }
  asio::io_context loop;
  std::list<follower> all;
  for (unsigned i = 0; i < followers_count; ++i) {
    all.emplace_back(loop, server, operations[i % operations.size()], i, i % 3 == 0);
    asio::co_spawn(loop, all.back().run(), asio::detached);
  }
  long memory_most = 0;
  const auto begun = std::chrono::steady_clock::now();
  run_to_the_end(loop, all, [&] { memory_most = std::max(memory_most, anonymous_kib(server)); });
  const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - begun;

  int breaks = 0;
  for (const auto& operation : operations) {
    const auto replay = replay_of(server, operation);
    for (const auto& each : all) {
      if (each.operation() == operation) {
        BOOST_TEST(each.complaint().empty(), each.complaint());
        BOOST_TEST((each.seen() == replay), "a follower of " << operation << " saw "
                                                             << each.seen().size() << " events of "
                                                             << replay.size());
        breaks += each.breaks();
      }
    }
  }
  BOOST_TEST(breaks == 0); // none was turned away
  std::cout << followers_count << " followers over " << operations_count << " operations took "
            << spent.count() << " s; the daemon's own memory was " << memory_before
            << " KiB before and " << memory_most << " KiB at most\n";
  BOOST_TEST(memory_most - memory_before <= static_cast<long>(followers_count) * 64 + 32 * 1024);
  BOOST_TEST(server.stop() == 0);
}

BOOST_AUTO_TEST_CASE(followers_that_do_not_read_cost_little_and_harm_nobody) {
  const int sleepers_count = is_full ? 200 : 20;
  state_folder folder;
  node server{folder.path(), {"--vm.running_max=1"}};
  const auto base = server.import_busybox();
  json::object loud{{"command", "head -c 10000000 /dev/zero | tr '\\0' x"},
                    {"shell", true},
                    {"image", base},
                    {"disposable", true},
                    {"timeout", 600},
                    {"truncate_output_at", 10 << 20}};
  server.wait(server.spawn(loud)); // what it takes without them
  const auto memory_before = anonymous_kib(server);
  const auto operation = server.spawn(loud);
  asio::io_context loop;
  std::list<sleeper> asleep;
  for (int i = 0; i < sleepers_count; ++i) {
    asleep.emplace_back(loop, server, operation);
  }
  std::list<follower> awake;
  for (unsigned i = 0; i < 4; ++i) {
    awake.emplace_back(loop, server, operation, i, i % 2 == 0);
    asio::co_spawn(loop, awake.back().run(), asio::detached);
  }
  long memory_most = 0;
  run_to_the_end(loop, awake, [&] { memory_most = std::max(memory_most, anonymous_kib(server)); });
  const auto replay = replay_of(server, operation);
  for (const auto& each : awake) {
    BOOST_TEST(each.complaint().empty(), each.complaint());
    BOOST_TEST((each.seen() == replay));
  }
  std::cout << sleepers_count << " followers that do not read: the daemon's own memory was "
            << memory_before << " KiB before and " << memory_most << " KiB at most\n";
  BOOST_TEST(memory_most - memory_before <= sleepers_count * 512 + 32 * 1024);
  BOOST_TEST(server.connect().get("/v1/operations/" + operation).status == 200u);
  BOOST_TEST(server.stop() == 0); // they do not keep it
}
