#include "vmm/agent/port.hpp"

#include "protocol/limits.hpp"

#include <boost/test/unit_test.hpp>
#include <capnp/message.h>
#include <sys/socket.h>

using namespace coppice;
using namespace coppice::agent;

BOOST_AUTO_TEST_SUITE(agent_port)

namespace {

struct channel {
  descriptor host;
  std::unique_ptr<port> guest;
  std::vector<frame<proto::ToGuest>> heard;

  channel() {
    int fds[2];
    BOOST_REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    host = descriptor{fds[0]};
    guest = std::make_unique<port>(descriptor{fds[1]});
  }

  result<void> receive() {
    return guest->receive([this](frame<proto::ToGuest> m) { heard.push_back(std::move(m)); });
  }

  void put(std::string_view bytes) {
    BOOST_REQUIRE(::write(host.get(), bytes.data(), bytes.size()) ==
                  static_cast<ssize_t>(bytes.size()));
  }

  std::string take() {
    std::string out(1u << 20, '\0');
    auto n = ::read(host.get(), out.data(), out.size());
    out.resize(static_cast<std::size_t>(n > 0 ? n : 0));
    return out;
  }
};

std::string header(std::size_t words) {
  std::string out;
  for (unsigned i = 0; i < 4; ++i) {
    out += static_cast<char>(words >> (8 * i) & 0xff);
  }
  return out;
}

std::string signal_order(std::uint64_t run, int number) {
  auto message = make_frame<proto::ToGuest>([&](auto root) {
    root.setRun(run);
    root.initSignal().setNumber(number);
  });
  auto bytes = message.bytes();
  return header(bytes.size() / 8) +
         std::string{reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void send_text(port& to, std::size_t bytes) {
  capnp::MallocMessageBuilder message;
  auto data =
      message.initRoot<proto::FromGuest>().initOutput().initData(static_cast<unsigned>(bytes));
  std::fill(data.begin(), data.end(), static_cast<unsigned char>('x'));
  to.send(message);
}

} // namespace

BOOST_FIXTURE_TEST_CASE(frames_are_whole_however_their_bytes_arrive, channel) {
  auto bytes = signal_order(7, 15) + signal_order(8, 9);
  for (char c : bytes) {
    put({&c, 1});
    BOOST_REQUIRE(receive());
  }
  put(bytes);
  BOOST_REQUIRE(receive());
  BOOST_REQUIRE(heard.size() == 4u);
  BOOST_TEST(heard[0].view()->getRun() == 7u);
  BOOST_TEST(heard[3].view()->getSignal().getNumber() == 9);
}

BOOST_FIXTURE_TEST_CASE(a_frame_beyond_the_limits_breaks_the_channel, channel) {
  put(header(limits::channel_frame_bytes_max / 8 + 1));
  BOOST_TEST(!receive());
}

BOOST_FIXTURE_TEST_CASE(an_empty_frame_breaks_the_channel, channel) {
  put(header(0));
  BOOST_TEST(!receive());
}

BOOST_AUTO_TEST_CASE(bytes_that_are_no_message_break_the_channel) {
  channel c;
  c.put(header(2) + std::string(16, '\xff'));
  auto received = c.guest->receive([](frame<proto::ToGuest> m) { m.view()->getRun(); });
  BOOST_TEST(!received);
}

BOOST_FIXTURE_TEST_CASE(a_host_that_does_not_read_congests_the_port_and_loses_nothing, channel) {
  std::size_t sent = 0;
  while (!guest->is_congested()) {
    send_text(*guest, 32'000);
    BOOST_REQUIRE(++sent < 1'000u);
  }
  BOOST_TEST(guest->has_queued());
  std::size_t got = 0;
  while (guest->has_queued()) {
    got += take().size();
    BOOST_REQUIRE(guest->flush());
  }
  for (auto more = take(); !more.empty(); more = take()) {
    got += more.size();
  }
  BOOST_TEST(!guest->is_congested());
  BOOST_TEST(got % sent == 0u);
  BOOST_TEST(got / sent > 32'000u);
}

BOOST_AUTO_TEST_SUITE_END()
