#define BOOST_TEST_MODULE vmm_guest_channel
#include <boost/test/unit_test.hpp>

#include "vmm/event_loop.hpp"
#include "vmm/guest_channel.hpp"

#include "protocol/limits.hpp"
#include "tests/vmm/guest_messages.hpp"

#include <boost/asio/post.hpp>

#include <fcntl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <condition_variable>
#include <future>
#include <mutex>

using namespace coppice;
using namespace coppice::tests;
using namespace coppice::vmm;

namespace {

constexpr std::size_t queue_max = 64u << 10;
constexpr std::size_t unread_max = 64u << 10;
constexpr std::chrono::seconds patience{20};

/// A channel whose other end the test plays.
struct fixture {
  fixture() {
    int ends[2];
    BOOST_REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    guest.reset(ends[1]);
    guest_channel::handlers on;
    on.on_message = [this](from_guest m) {
      std::lock_guard lock{mutex};
      messages.push_back(std::move(m));
      changed.notify_all();
    };
    on.on_refused = [this](std::string why) {
      std::lock_guard lock{mutex};
      refusal = std::move(why);
      changed.notify_all();
    };
    on.on_closed = [this] {
      std::lock_guard lock{mutex};
      closed = true;
      changed.notify_all();
    };
    on.on_writable = [this] {
      std::lock_guard lock{mutex};
      ++writable;
      changed.notify_all();
    };
    channel = std::make_shared<guest_channel>(loop.context(), unique_fd{ends[0]},
                                              guest_channel::bounds{queue_max, unread_max}, on);
    boost::asio::post(loop.context(), [c = channel] { c->start(); });
  }

  ~fixture() {
    boost::asio::post(loop.context(), [c = channel] { c->close(); });
  }

  template <class Condition>
  bool wait_until(Condition condition) {
    std::unique_lock lock{mutex};
    return changed.wait_for(lock, patience, condition);
  }

  void say(const std::vector<std::byte>& bytes) {
    for (std::size_t at = 0; at < bytes.size();) {
      auto n = ::write(guest.get(), bytes.data() + at, bytes.size() - at);
      BOOST_REQUIRE(n > 0);
      at += static_cast<std::size_t>(n);
    }
  }

  /// Everything that was posted to the loop so far has been done.
  void settle() {
    std::promise<void> done;
    boost::asio::post(loop.context(), [&] { done.set_value(); });
    done.get_future().get();
  }

  std::mutex mutex;
  std::condition_variable changed;
  std::vector<from_guest> messages;
  std::string refusal;
  bool closed = false;
  int writable = 0;
  unique_fd guest;
  event_loop loop;
  std::shared_ptr<guest_channel> channel;
};

frame<proto::ToGuest> stdin_message(std::size_t bytes, std::uint64_t run = 1) {
  return make_frame<proto::ToGuest>([&](auto root) {
    root.setRun(run);
    auto data = root.initStdin();
    data.setSpid(1);
    data.initData(static_cast<capnp::uint>(bytes));
  });
}

std::vector<std::byte> read_exactly(int fd, std::size_t bytes) {
  std::vector<std::byte> out;
  std::array<std::byte, 4096> piece;
  while (out.size() < bytes) {
    auto n = ::read(fd, piece.data(), std::min(piece.size(), bytes - out.size()));
    BOOST_REQUIRE(n > 0);
    out.insert(out.end(), piece.begin(), piece.begin() + n);
  }
  return out;
}

} // namespace

BOOST_FIXTURE_TEST_CASE(messages_arrive_in_order_whatever_the_pieces, fixture) {
  std::vector<std::byte> stream;
  for (std::uint64_t run = 1; run <= 20; ++run) {
    const auto bytes = wire(mounted_message(run));
    stream.insert(stream.end(), bytes.begin(), bytes.end());
  }
  for (std::size_t at = 0; at < stream.size(); at += 5) {
    const auto n = std::min<std::size_t>(5, stream.size() - at);
    BOOST_REQUIRE(::write(guest.get(), stream.data() + at, n) == static_cast<ssize_t>(n));
  }
  BOOST_REQUIRE(wait_until([&] { return messages.size() == 20; }));
  for (std::uint64_t run = 1; run <= 20; ++run) {
    BOOST_TEST((*messages[run - 1].view()).getRun() == run);
  }
}

BOOST_FIXTURE_TEST_CASE(nothing_is_delivered_after_the_first_bad_frame, fixture) {
  auto stream = wire(mounted_message());
  for (const auto& more : {wire(output_message(1, 0)), wire(mounted_message())}) {
    stream.insert(stream.end(), more.begin(), more.end());
  }
  say(stream);
  BOOST_REQUIRE(wait_until([&] { return !refusal.empty(); }));
  settle();
  BOOST_TEST(messages.size() == 1u);
  BOOST_TEST(refusal == "output.spid: out of range");
  BOOST_TEST(!closed);
  BOOST_TEST((channel->send(stdin_message(1)).error().code == ec::closed));
}

BOOST_FIXTURE_TEST_CASE(an_oversize_frame_is_refused_at_its_header, fixture) {
  say({std::byte{0xff}, std::byte{0xff}, std::byte{0xff}, std::byte{0x7f}});
  BOOST_REQUIRE(wait_until([&] { return !refusal.empty(); }));
}

BOOST_FIXTURE_TEST_CASE(a_stream_that_ends_inside_a_frame_is_closed, fixture) {
  auto stream = wire(started_message());
  stream.pop_back();
  say(stream);
  guest.reset();
  BOOST_REQUIRE(wait_until([&] { return closed; }));
  BOOST_TEST(messages.empty());
  BOOST_TEST(refusal == "");
}

BOOST_FIXTURE_TEST_CASE(a_flood_stays_outside_until_the_owner_has_taken_what_came, fixture) {
  // The socket takes what it can; the rest of the flood must stay with the sender.
  ::fcntl(guest.get(), F_SETFL, O_NONBLOCK);
  const auto one = wire(output_message(limits::output_chunk_bytes));
  const auto frame_bytes = one.size() - 4;
  std::size_t sent = 0;
  std::size_t taken = 0;
  auto push = [&] {
    for (;;) {
      const auto at = sent % one.size();
      auto n = ::write(guest.get(), one.data() + at, one.size() - at);
      if (n <= 0) {
        return;
      }
      sent += static_cast<std::size_t>(n);
    }
  };
  // Delivered is at most the bound and the one message that crossed it.
  const auto most = unread_max / frame_bytes + 1;
  push();
  BOOST_REQUIRE(wait_until([&] { return messages.size() == most; }));
  push();
  settle();
  BOOST_TEST(messages.size() == most);
  // Taking one by one lets in as much.
  for (int round = 0; round < 50; ++round) {
    ++taken;
    channel->consumed(frame_bytes);
    push();
    BOOST_REQUIRE(wait_until([&] { return messages.size() >= most + taken; }));
    settle();
    std::lock_guard lock{mutex};
    BOOST_REQUIRE(messages.size() == most + taken);
  }
}

BOOST_FIXTURE_TEST_CASE(sending_is_busy_when_the_guest_does_not_read, fixture) {
  const auto message = stdin_message(8u << 10);
  std::size_t accepted = 0;
  result<void> last{};
  // The socket's own buffer takes some, then our queue fills: this loop has to end.
  for (; accepted < 10'000 && last; ++accepted) {
    last = channel->send(message);
    settle();
  }
  BOOST_REQUIRE(!last);
  BOOST_TEST((last.error().code == ec::busy));
  settle();
  BOOST_TEST(writable == 0);
  --accepted;
  // Once the guest reads, everything that was accepted comes, and there is room again.
  for (std::size_t i = 0; i < accepted; ++i) {
    auto bytes = read_exactly(guest.get(), 4 + message.bytes().size());
    BOOST_REQUIRE((bytes == wire(message)));
  }
  BOOST_REQUIRE(wait_until([&] { return writable == 1; }));
  BOOST_TEST(channel->send(message).has_value());
  BOOST_TEST((read_exactly(guest.get(), 4 + message.bytes().size()) == wire(message)));
  settle();
  BOOST_TEST(writable == 1); // once for a busy, however much is sent after it
}

BOOST_FIXTURE_TEST_CASE(a_message_beyond_the_frame_limit_is_not_sent, fixture) {
  auto out = channel->send(stdin_message(limits::channel_frame_bytes_max));
  BOOST_REQUIRE(!out);
  BOOST_TEST((out.error().code == ec::protocol));
}

BOOST_FIXTURE_TEST_CASE(after_closing_nothing_is_called, fixture) {
  std::promise<void> done;
  boost::asio::post(loop.context(), [&] {
    channel->close();
    done.set_value();
  });
  done.get_future().get();
  guest.reset();
  settle();
  BOOST_TEST(!closed);
  BOOST_TEST((channel->send(stdin_message(1)).error().code == ec::closed));
}

BOOST_FIXTURE_TEST_CASE(what_was_said_before_the_end_is_delivered_when_it_is_drained, fixture) {
  std::promise<std::size_t> delivered;
  boost::asio::post(loop.context(), [&] {
    // The loop is busy here: nothing that comes now can have been read by it.
    say(wire(output_message(10)));
    say(wire(output_message(10)));
    guest.reset();
    channel->drain();
    std::lock_guard lock{mutex};
    delivered.set_value(messages.size());
  });
  BOOST_TEST(delivered.get_future().get() == 2u);
}
