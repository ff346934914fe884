#define BOOST_TEST_MODULE inspector_session
#include <boost/test/unit_test.hpp>

#include "protocol/limits.hpp"
#include "storage/frame_stream.hpp"
#include "tests/storage/made_disk.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

using namespace coppice;
using namespace coppice::storage;
using namespace coppice::storage::test;

// --------------------------------------------------------------------------

namespace {

/// One session with serve_inspect on the other end of a socket pair.
struct session {
  explicit session(std::unique_ptr<block_source> source) {
    int ends[2]{};
    BOOST_REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    socket = ends[0];
    worker = std::thread{[this, other = ends[1], s = std::move(source)]() mutable {
      outcome = serve_inspect(other, std::move(s));
      ::close(other);
    }};
  }
  ~session() {
    close_socket();
    if (worker.joinable()) {
      worker.join();
    }
  }
  void close_socket() {
    if (socket >= 0) {
      ::close(std::exchange(socket, -1));
    }
  }
  result<void> join() {
    worker.join();
    return outcome;
  }

  void order(proto::InspectVerb verb, const char* path) {
    BOOST_REQUIRE(write_frame(socket, make_frame<proto::InspectOrder>([&](auto root) {
                                auto work = root.initWork();
                                work.setVerb(verb);
                                work.setPath(path);
                              })));
  }
  frame<proto::InspectAnswer> answer() {
    auto bytes = read_frame(socket);
    BOOST_REQUIRE(bytes);
    BOOST_REQUIRE(*bytes);
    auto out = checked<proto::InspectAnswer>(**bytes, limits::channel_frame_bytes_max);
    BOOST_REQUIRE(out);
    return *out;
  }
  frame<proto::InspectAnswer> more() {
    BOOST_REQUIRE(
        write_frame(socket, make_frame<proto::InspectOrder>([](auto root) { root.initMore(); })));
    return answer();
  }

  int socket = -1;
  std::thread worker;
  result<void> outcome;
};

std::unique_ptr<block_source> source_of(made_disk& made) {
  made.make();
  return std::make_unique<memory_source>(made.load());
}

} // namespace

BOOST_AUTO_TEST_CASE(a_download_is_told_by_where_its_bytes_lie) {
  made_disk made;
  std::string text(600'000, 'd');
  text += "end";
  made.write("data", text);
  made.make();
  auto disk = made.load();
  session peer{std::make_unique<memory_source>(disk)};
  peer.order(proto::InspectVerb::DOWNLOAD, "/data");
  BOOST_CHECK_EQUAL(peer.answer().view()->getOpened(), text.size());
  std::string received;
  for (bool is_last = false; !is_last;) {
    auto next = peer.more();
    auto view = next.view();
    BOOST_REQUIRE(view->isParts());
    for (auto part : view->getParts()) {
      BOOST_CHECK_EQUAL(part.getData().size(), 0);
      BOOST_REQUIRE_LE(part.getOffset() + part.getBytes(), disk->bytes.size());
      received.append(reinterpret_cast<const char*>(disk->bytes.data()) + part.getOffset(),
                      part.getBytes());
    }
    is_last = view->getLast();
  }
  BOOST_CHECK(received == text);
  BOOST_CHECK(peer.more().view()->isEnd()); // whoever asks on
}

BOOST_AUTO_TEST_CASE(a_worker_serves_one_session_after_the_other) {
  made_disk made;
  session peer{source_of(made)};
  for (int round = 0; round < 2; ++round) {
    peer.order(proto::InspectVerb::LIST, "/etc");
    BOOST_CHECK_EQUAL(peer.answer().view()->getOpened(), 0u);
    auto entries = peer.more();
    BOOST_REQUIRE(entries.view()->isEntries());
    BOOST_CHECK_EQUAL(entries.view()->getEntries().size(), 2u);
    BOOST_CHECK(entries.view()->getLast());
    peer.order(proto::InspectVerb::LIST, "/nowhere");
    BOOST_CHECK(peer.answer().view()->isFailed());
    peer.order(proto::InspectVerb::DOWNLOAD, "/plain"); // and then not read
    BOOST_CHECK(!peer.answer().view()->getLast());
    peer.order(proto::InspectVerb::STAT, "/plain");
    auto size = peer.answer();
    BOOST_CHECK_EQUAL(size.view()->getOpened(), 10u);
    BOOST_CHECK(size.view()->getLast());
  }
  peer.close_socket();
  BOOST_CHECK(peer.join());
}

BOOST_AUTO_TEST_CASE(failures_are_answers_with_their_reason) {
  using reason = proto::InspectAnswer::Reason;
  struct wrong {
    proto::InspectVerb verb;
    const char* path;
    reason why;
  };
  for (auto [verb, path, why] :
       std::initializer_list<wrong>{{proto::InspectVerb::LIST, "/nowhere", reason::NOT_FOUND},
                                    {proto::InspectVerb::LIST, "/plain", reason::WRONG_TYPE},
                                    {proto::InspectVerb::DOWNLOAD, "/etc", reason::WRONG_TYPE},
                                    {proto::InspectVerb::STAT, "/etc", reason::WRONG_TYPE},
                                    {proto::InspectVerb::STAT, "/etc/x", reason::NOT_FOUND}}) {
    made_disk made;
    session peer{source_of(made)};
    peer.order(verb, path);
    auto answer = peer.answer();
    BOOST_REQUIRE(answer.view()->isFailed());
    BOOST_CHECK(answer.view()->getFailed().getReason() == why);
  }
  auto empty = std::make_shared<memory_disk>();
  session peer{std::make_unique<memory_source>(empty)};
  peer.order(proto::InspectVerb::LIST, "/");
  auto answer = peer.answer();
  BOOST_REQUIRE(answer.view()->isFailed());
  BOOST_CHECK(answer.view()->getFailed().getReason() == reason::DAMAGED);
}

BOOST_AUTO_TEST_CASE(a_session_ends_when_the_peer_goes_or_talks_nonsense) {
  {
    made_disk made;
    session peer{source_of(made)};
    peer.close_socket();
    BOOST_CHECK(peer.join());
  }
  {
    made_disk made;
    session peer{source_of(made)};
    peer.order(proto::InspectVerb::DOWNLOAD, "/plain");
    peer.answer();
    peer.close_socket();
    BOOST_CHECK(peer.join());
  }
  for (const std::string& nonsense :
       {std::string("\xff\xff\xff\xff", 4), std::string("\x01\x00\x00\x00nonsense", 12),
        std::string("\x02\x00\x00\x00half", 8)}) {
    made_disk made;
    session peer{source_of(made)};
    BOOST_REQUIRE_EQUAL(::send(peer.socket, nonsense.data(), nonsense.size(), 0),
                        static_cast<ssize_t>(nonsense.size()));
    ::shutdown(peer.socket, SHUT_WR);
    BOOST_CHECK(!peer.join());
  }
}

BOOST_AUTO_TEST_CASE(a_frame_is_whole_at_its_deadline_or_given_up) {
  using namespace std::chrono_literals;
  auto after = [](auto time) {
    return std::chrono::steady_clock::now() + time;
  };
  int ends[2]{};
  BOOST_REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  const auto large = make_frame<proto::InspectOrder>([](auto root) {
    auto path = root.initWork().initPath(1u << 20);
    std::fill(path.begin(), path.end(), 'p');
  });
  std::thread peer{[&] {
    BOOST_CHECK(write_frame(ends[1], large, after(1h)));
  }};
  auto whole = read_frame(ends[0], after(1h));
  peer.join();
  BOOST_REQUIRE(whole && *whole);
  BOOST_CHECK((*whole)->size() == large.bytes().size());

  check_fails(write_frame(ends[0], large, after(20ms)), ec::busy, "too long"); // nobody reads it

  // A byte now and then: each of them in time, and the frame never.
  peer = std::thread{[other = ends[1]] {
    const std::uint32_t words = 100'000;
    ::send(other, &words, sizeof words, MSG_NOSIGNAL);
    while (::send(other, "x", 1, MSG_NOSIGNAL) == 1) {
      ::poll(nullptr, 0, 1);
    }
  }};
  check_fails(read_frame(ends[0], after(50ms)), ec::busy, "too long");
  ::close(ends[0]);
  peer.join();
  ::close(ends[1]);
}
