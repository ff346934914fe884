#define BOOST_TEST_MODULE ring_loop
#include <boost/test/unit_test.hpp>

#include "storage/ring/loop.hpp"
#include "tests/storage/ring_kinds.hpp"

#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <future>
#include <thread>

using namespace coppice;
using namespace coppice::storage;
using namespace coppice::storage::test;

namespace {

const auto kinds = ring_kinds();

} // namespace

BOOST_DATA_TEST_CASE(posts_of_each_thread_run_in_order_on_the_loops_thread, kinds, kind) {
  constexpr int posters = 3;
  constexpr int posts = 200;
  std::array<std::vector<int>, posters> seen;
  bool is_always_current = true;
  std::string name(16, '\0');
  {
    loop l{kind.make(4), 7};
    BOOST_CHECK(!l.is_current_thread());
    std::vector<std::thread> threads;
    for (std::size_t who = 0; who < posters; ++who) {
      threads.emplace_back([&, who] {
        for (int i = 0; i < posts; ++i) {
          l.post([&, who, i] {
            seen[who].push_back(i);
            is_always_current = is_always_current && l.is_current_thread();
          });
        }
      });
    }
    l.post([&] { ::pthread_getname_np(::pthread_self(), name.data(), name.size()); });
    for (auto& thread : threads) {
      thread.join();
    }
  } // what was posted is run first
  for (const auto& one : seen) {
    BOOST_CHECK_EQUAL(one.size(), posts);
    BOOST_CHECK(std::ranges::is_sorted(one));
  }
  BOOST_CHECK(is_always_current);
  BOOST_CHECK_EQUAL(name.c_str(), "disk-7");
}

BOOST_DATA_TEST_CASE(work_that_posts_on_its_own_thread_goes_on_while_the_loop_stops, kinds, kind) {
  int left = 100;
  std::function<void()> again;
  {
    loop l{kind.make(4), 0};
    again = [&] {
      if (--left > 0) {
        l.post(again);
      }
    };
    l.post(again);
  }
  BOOST_CHECK_EQUAL(left, 0);
}

namespace {

task<void> write_and_tell(ring& on, std::string path, std::promise<std::string>& told) {
  auto opening = io::open(on, path, O_RDWR | O_CREAT);
  auto fd = co_await opening;
  if (!fd) {
    told.set_value(fd.error().text);
    co_return;
  }
  auto writing = io::write_durably(on, *fd, 0, bytes_of("by the loop"), path);
  auto written = co_await writing;
  auto closing = io::close(on, *fd);
  co_await closing;
  told.set_value(written ? "written" : written.error().text);
}

} // namespace

BOOST_DATA_TEST_CASE(a_loop_carries_out_requests_between_posts, kinds, kind) {
  scratch dir;
  std::promise<std::string> told;
  loop l{kind.make(4), 0};
  l.post([&] { start(write_and_tell(l.requests(), dir / "f", told)); });
  BOOST_CHECK_EQUAL(told.get_future().get(), "written");
  auto content = read_file(dir / "f");
  BOOST_CHECK(std::ranges::equal(content, bytes_of("by the loop")));
}

/// Posts when it ends.
struct posting : io_request {
  loop* to = nullptr;
  bool was_run = false;
};

BOOST_DATA_TEST_CASE(a_stopping_loop_ends_what_is_in_the_air_and_what_that_posts, kinds, kind) {
  std::array<int, 2> ends{};
  BOOST_REQUIRE_EQUAL(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
  std::array<char, 1> byte{};
  posting receive;
  receive.what = io_request::call::receive;
  receive.fd = ends[0];
  receive.buffer = byte.data();
  receive.length = byte.size();
  receive.done = [](io_request& ended) {
    auto& self = static_cast<posting&>(ended);
    self.to->post([&self] { self.was_run = true; });
  };
  std::promise<void> taken;
  std::thread peer;
  {
    loop l{kind.make(4), 0};
    receive.to = &l;
    l.post([&] {
      l.requests().submit(receive);
      taken.set_value();
    });
    taken.get_future().get();
    peer = std::thread{[&] {
      ::send(ends[1], "x", 1, 0);
    }};
  }
  BOOST_CHECK_EQUAL(receive.result, 1);
  BOOST_CHECK(receive.was_run);
  peer.join();
  ::close(ends[0]);
  ::close(ends[1]);
}
