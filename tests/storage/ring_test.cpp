#define BOOST_TEST_MODULE ring
#include <boost/test/unit_test.hpp>

#include "tests/storage/ring_kinds.hpp"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <numeric>
#include <system_error>
#include <thread>

using namespace coppice;
using namespace coppice::storage;
using namespace coppice::storage::test;
using call = io_request::call;

namespace {

const auto kinds = ring_kinds();

struct socket_pair {
  socket_pair() {
    BOOST_REQUIRE_EQUAL(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
  }
  ~socket_pair() {
    close_end(0);
    close_end(1);
  }
  socket_pair(const socket_pair&) = delete;
  socket_pair& operator=(const socket_pair&) = delete;
  void close_end(std::size_t which) {
    if (ends[which] >= 0) {
      ::close(std::exchange(ends[which], -1));
    }
  }
  std::array<int, 2> ends{-1, -1};
};

template <class Bytes>
counted moving(call what, int fd, Bytes& bytes, int flags = 0) {
  counted out{what};
  out.fd = fd;
  out.buffer = std::data(bytes);
  out.length = std::size(bytes);
  out.flags = flags;
  return out;
}

std::string pattern(std::size_t length) {
  std::string out(length, ' ');
  for (std::size_t i = 0; i < length; ++i) {
    out[i] = static_cast<char>('a' + i * 7 % 23 + i / 4096 % 3);
  }
  return out;
}

} // namespace

BOOST_DATA_TEST_CASE(the_second_of_a_pair_starts_when_the_first_has_done_all, kinds, kind) {
  scratch dir;
  auto on = kind.make(4);
  auto fd = must_open(*on, dir / "f");
  std::string text = "durable";
  auto write = moving(call::write, fd, text);
  counted sync{call::sync_data};
  sync.fd = fd;
  on->submit_linked(write, sync);
  BOOST_CHECK_EQUAL(on->pending(), 2u);
  turn_until_done(*on);
  BOOST_CHECK_EQUAL(write.result, 7);
  BOOST_CHECK_EQUAL(sync.result, 0);
  BOOST_CHECK_EQUAL(write.ends + sync.ends, 2);

  std::string wanted(100, ' ');
  std::string other = "never";
  auto short_read = moving(call::read, fd, wanted);
  auto after_short = moving(call::write, fd, other);
  on->submit_linked(short_read, after_short);
  auto failing = moving(call::write, -1, text);
  auto after_failing = moving(call::write, fd, other);
  on->submit_linked(failing, after_failing);
  turn_until_done(*on);
  BOOST_CHECK_EQUAL(short_read.result, 7);
  BOOST_CHECK_EQUAL(after_short.result, -ECANCELED);
  BOOST_CHECK_EQUAL(failing.result, -EBADF);
  BOOST_CHECK_EQUAL(after_failing.result, -ECANCELED);
  BOOST_CHECK_EQUAL(after_short.ends + after_failing.ends, 2);
  auto content = read_file(dir / "f");
  BOOST_CHECK(std::ranges::equal(content, bytes_of("durable")));
  ::close(fd);
}

BOOST_DATA_TEST_CASE(more_requests_than_the_queue_has_all_end_once, kinds, kind) {
  scratch dir;
  auto on = kind.make(2);
  auto fd = must_open(*on, dir / "f");
  constexpr std::size_t pairs = 100;
  std::string bytes = pattern(pairs);
  std::vector<counted> requests;
  requests.reserve(3 * pairs);
  for (std::size_t i = 0; i < pairs; ++i) {
    auto part = std::span{bytes}.subspan(i, 1);
    auto& write = requests.emplace_back(moving(call::write, fd, part));
    write.offset = i;
    auto& sync = requests.emplace_back(call::sync_data);
    sync.fd = fd;
    on->submit_linked(write, sync);
    auto& status = requests.emplace_back(call::close);
    status.fd = -1;
    on->submit(status);
  }
  BOOST_CHECK_EQUAL(on->pending(), 3 * pairs);
  turn_until_done(*on);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    BOOST_REQUIRE_EQUAL(requests[i].ends, 1);
    BOOST_REQUIRE_EQUAL(requests[i].result, i % 3 == 0 ? 1 : i % 3 == 1 ? 0 : -EBADF);
  }
  auto content = read_file(dir / "f");
  BOOST_CHECK(std::ranges::equal(content, bytes_of(bytes)));
  ::close(fd);
}

namespace {

/// Reads byte after byte, each time with a new request from within the end of the last.
struct chained : io_request {
  struct state {
    ring& on;
    int fd;
    std::string bytes;
    std::size_t read = 0;
    std::size_t left_when_taken = 0;
  };
  explicit chained(state& shared) : of{shared} {
    what = call::read;
    fd = of.fd;
    offset = of.read;
    buffer = &of.bytes[of.read];
    length = 1;
    done = [](io_request& ended) {
      auto& whole = static_cast<chained&>(ended).of;
      BOOST_REQUIRE_EQUAL(ended.result, 1);
      delete &static_cast<chained&>(ended);
      if (++whole.read < whole.bytes.size()) {
        whole.on.submit(*new chained{whole});
      }
    };
  }
  state& of;
};

} // namespace

BOOST_DATA_TEST_CASE(an_end_may_destroy_its_request_and_ask_for_the_next, kinds, kind) {
  scratch dir;
  auto text = pattern(500);
  write_at(dir / "f", 0, bytes_of(text));
  auto on = kind.make(2);
  auto fd = must_open(*on, dir / "f");
  chained::state whole{*on, fd, std::string(text.size(), ' ')};
  on->submit(*new chained{whole});
  turn_until_done(*on);
  BOOST_CHECK(whole.bytes == text);
  ::close(fd);
}

BOOST_DATA_TEST_CASE(a_turn_without_requests_returns, kinds, kind) {
  auto on = kind.make(2);
  on->turn();
  BOOST_CHECK_EQUAL(on->pending(), 0u);
}

BOOST_DATA_TEST_CASE(receives_that_wait_hold_up_no_disk_request, kinds, kind) {
  scratch dir;
  auto on = kind.make(2); // fewer than there are receives
  std::array<socket_pair, 10> sockets;
  std::array<std::array<char, 4>, 10> received{};
  std::vector<counted> receives;
  receives.reserve(sockets.size());
  for (std::size_t i = 0; i < sockets.size(); ++i) {
    on->submit(receives.emplace_back(moving(call::receive, sockets[i].ends[0], received[i])));
  }
  auto fd = must_open(*on, dir / "f");
  std::string name = dir / "f";
  BOOST_CHECK(io::run(*on, io::write_durably(*on, fd, 0, bytes_of("text"), name)));
  BOOST_CHECK_EQUAL(on->pending(), sockets.size());
  for (std::size_t i = sockets.size(); i-- > 0;) {
    BOOST_REQUIRE_EQUAL(::send(sockets[i].ends[1], "abc", i % 3, 0), i % 3);
    sockets[i].close_end(1);
  }
  turn_until_done(*on);
  for (std::size_t i = 0; i < sockets.size(); ++i) {
    BOOST_CHECK_EQUAL(receives[i].result, i % 3);
    BOOST_CHECK_EQUAL(receives[i].ends, 1);
  }
  ::close(fd);
}

BOOST_DATA_TEST_CASE(linked_sends_arrive_whole_and_in_order, kinds, kind) {
  auto on = kind.make(4);
  socket_pair sockets;
  auto head = pattern(3 << 20); // many times the socket's buffer
  std::string tail = "and the tail";
  std::string received(head.size() + tail.size(), ' ');
  auto first = moving(call::send, sockets.ends[0], head);
  auto second = moving(call::send, sockets.ends[0], tail);
  auto receive = moving(call::receive, sockets.ends[1], received, MSG_WAITALL);
  on->submit_linked(first, second);
  on->submit(receive);
  turn_until_done(*on);
  BOOST_CHECK_EQUAL(first.result, head.size());
  BOOST_CHECK_EQUAL(second.result, tail.size());
  BOOST_CHECK_EQUAL(receive.result, received.size());
  BOOST_CHECK(received == head + tail);
}

BOOST_DATA_TEST_CASE(a_peer_that_left_ends_what_waits, kinds, kind) {
  auto on = kind.make(2);
  socket_pair sockets;
  std::string bytes(10, ' ');
  auto receive = moving(call::receive, sockets.ends[0], bytes, MSG_WAITALL);
  on->submit(receive);
  BOOST_REQUIRE_EQUAL(::send(sockets.ends[1], "abc", 3, 0), 3);
  sockets.close_end(1);
  turn_until_done(*on);
  BOOST_CHECK_EQUAL(receive.result, 3); // what came before
  auto send = moving(call::send, sockets.ends[0], bytes);
  on->submit(send);
  turn_until_done(*on);
  BOOST_CHECK_EQUAL(send.result, -EPIPE); // and no SIGPIPE
}

namespace {

/// The calling thread alone can make this system call no more.
void forbid(unsigned system_call) {
  std::array filter = {
      sock_filter{BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(seccomp_data, nr)},
      sock_filter{BPF_JMP | BPF_JEQ | BPF_K, 0, 1, system_call},
      sock_filter{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | EPERM},
      sock_filter{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
  };
  sock_fprog program{filter.size(), filter.data()};
  BOOST_REQUIRE_EQUAL(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
  BOOST_REQUIRE_EQUAL(::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

} // namespace

BOOST_AUTO_TEST_CASE(what_keeps_io_uring_from_working_is_said) {
  for (unsigned refused : {SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register}) {
    std::thread{[&] {
      forbid(refused);
      auto obstacle = uring_obstacle();
      BOOST_CHECK_MESSAGE(obstacle.find("io_uring_") != std::string::npos, obstacle);
      BOOST_CHECK_THROW(make_uring(), std::system_error);
    }}.join();
  }
}
