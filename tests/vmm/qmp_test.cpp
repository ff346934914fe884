#define BOOST_TEST_MODULE vmm_qmp
#include <boost/test/unit_test.hpp>

#include "vmm/event_loop.hpp"
#include "vmm/qmp.hpp"

#include <boost/asio/post.hpp>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <future>

using namespace coppice::vmm;

namespace {

std::string read_line(int fd) {
  std::string out;
  char c = 0;
  while (::read(fd, &c, 1) == 1 && c != '\n') {
    out += c;
  }
  return out;
}

void write_text(int fd, const std::string& text) {
  BOOST_REQUIRE(::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
}

/// A client whose other end the test plays.
struct fixture {
  fixture() {
    int ends[2];
    BOOST_REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    qemu.reset(ends[1]);
    client = std::make_shared<qmp_client>(
        loop.context(), unique_fd{ends[0]},
        qmp_client::handlers{[this](const qmp_message& m) { event.set_value(m); },
                             [this](std::string why) { trouble.set_value(std::move(why)); },
                             [this] {
                               closed.set_value();
                             }});
    boost::asio::post(loop.context(), [c = client] { c->start(); });
  }
  ~fixture() {
    boost::asio::post(loop.context(), [c = client] { c->close(); });
  }

  std::promise<qmp_message> event;
  std::promise<std::string> trouble;
  std::promise<void> closed;
  unique_fd qemu;
  event_loop loop;
  std::shared_ptr<qmp_client> client;
};

const char* greeting = R"({"QMP": {"version": {"qemu": {"major": 7}}, "capabilities": ["oob"]}})";

} // namespace

BOOST_AUTO_TEST_CASE(each_kind_of_line_is_recognised) {
  BOOST_TEST((parse_qmp(greeting)->kind == qmp_kind::greeting));
  BOOST_TEST((parse_qmp(R"({"return": {}})")->kind == qmp_kind::reply));
  auto error = parse_qmp(R"({"error": {"class": "GenericError", "desc": "no such node"}})");
  BOOST_TEST((error->kind == qmp_kind::error));
  BOOST_TEST(error->name == "GenericError");
  BOOST_TEST(error->detail == "no such node");
  auto event = parse_qmp(R"({"timestamp": {"seconds": 1}, "event": "SHUTDOWN",)"
                         R"( "data": {"guest": true, "reason": "guest-reset"}})");
  BOOST_TEST((event->kind == qmp_kind::event));
  BOOST_TEST(event->name == "SHUTDOWN");
  BOOST_TEST(event->detail == "guest-reset");
}

BOOST_AUTO_TEST_CASE(lines_that_are_no_message_are_errors) {
  for (std::string line :
       {std::string{"hello"}, std::string{"[]"}, std::string{"{}"}, std::string{"{\"event\": 3}"},
        std::string{"{\"error\": \"x\"}"}, std::string{"{\"return\": "}, std::string(1000, '['),
        std::string{"{\"return\": 1} {"}}) {
    auto out = parse_qmp(line);
    BOOST_REQUIRE_MESSAGE(!out, line);
    BOOST_TEST((out.error().code == ec::protocol));
    BOOST_TEST(out.error().text.size() < 500u);
  }
}

BOOST_AUTO_TEST_CASE(lines_are_cut_wherever_the_pieces_end) {
  const std::string stream = "{\"a\":1}\r\n\r\n{\"b\":2}\n{\"c\"";
  for (std::size_t cut = 0; cut <= stream.size(); ++cut) {
    line_buffer lines;
    std::vector<std::string> out;
    for (auto piece : {stream.substr(0, cut), stream.substr(cut)}) {
      lines.append(piece);
      for (auto line = lines.next(); line && *line; line = lines.next()) {
        out.push_back(**line);
      }
    }
    BOOST_TEST((out == std::vector<std::string>{"{\"a\":1}", "{\"b\":2}"}));
  }
}

BOOST_AUTO_TEST_CASE(an_endless_line_is_an_error_not_memory) {
  line_buffer lines;
  lines.append(std::string(line_buffer::line_bytes_max, 'x'));
  BOOST_TEST(lines.next().has_value());
  lines.append("x");
  BOOST_TEST(!lines.next().has_value());
}

BOOST_FIXTURE_TEST_CASE(quit_waits_for_the_negotiation, fixture) {
  boost::asio::post(loop.context(), [c = client] { c->quit(); });
  write_text(qemu.get(), std::string{greeting} + "\r\n");
  BOOST_TEST(read_line(qemu.get()) == R"({"execute":"qmp_capabilities"})");
  write_text(qemu.get(), "{\"return\": {}}\r\n");
  BOOST_TEST(read_line(qemu.get()) == R"({"execute":"quit"})");
  qemu.reset();
  closed.get_future().get();
}

BOOST_FIXTURE_TEST_CASE(a_refused_order_is_reported, fixture) {
  write_text(qemu.get(), std::string{greeting} + "\n");
  read_line(qemu.get());
  write_text(qemu.get(), R"({"error": {"class": "CommandNotFound", "desc": "what?"}})"
                         "\n");
  BOOST_TEST(trouble.get_future().get() == "QEMU refused an order: CommandNotFound: what?");
}

BOOST_FIXTURE_TEST_CASE(garbage_ends_the_conversation_with_its_head_in_the_text, fixture) {
  write_text(qemu.get(), "\x1b[31mnot json\n");
  BOOST_TEST(trouble.get_future().get() == "QEMU said on its control socket: ?[31mnot json");
}

BOOST_FIXTURE_TEST_CASE(events_are_passed_on, fixture) {
  write_text(qemu.get(), R"({"event": "STOP", "timestamp": {}})"
                         "\n");
  BOOST_TEST(event.get_future().get().name == "STOP");
}

BOOST_AUTO_TEST_CASE(the_status_of_a_migration_is_the_events_detail) {
  BOOST_TEST(parse_qmp(R"({"event": "MIGRATION", "data": {"status": "completed"}})")->detail ==
             "completed");
}

BOOST_FIXTURE_TEST_CASE(orders_are_answered_in_turn_and_given_early_wait, fixture) {
  std::vector<int> answered;
  std::promise<void> all;
  boost::asio::post(loop.context(), [&] {
    client->order(R"({"execute":"stop"})", [&] { answered.push_back(1); });
    client->order(R"({"execute":"cont"})", [&] {
      answered.push_back(2);
      all.set_value();
    });
  });
  write_text(qemu.get(), std::string{greeting} + "\n");
  BOOST_TEST(read_line(qemu.get()) == R"({"execute":"qmp_capabilities"})");
  write_text(qemu.get(), "{\"return\": {}}\n");
  BOOST_TEST(read_line(qemu.get()) == R"({"execute":"stop"})");
  BOOST_TEST(read_line(qemu.get()) == R"({"execute":"cont"})");
  // One answer too many is no answer to anything.
  write_text(qemu.get(), "{\"return\": {}}\n{\"return\": {}}\n{\"return\": {}}\n");
  all.get_future().get();
  BOOST_TEST((answered == std::vector<int>{1, 2}));
}

BOOST_FIXTURE_TEST_CASE(a_descriptor_travels_with_its_order, fixture) {
  boost::asio::post(loop.context(), [&] {
    client->order(R"({"execute":"getfd"})", [] {}, unique_fd{::open("/dev/zero", O_RDONLY)});
  });
  write_text(qemu.get(), std::string{greeting} + "\n");
  read_line(qemu.get());
  write_text(qemu.get(), "{\"return\": {}}\n");
  char text[1] = {};
  iovec into{text, sizeof(text)};
  alignas(cmsghdr) char room[CMSG_SPACE(sizeof(int))]{};
  msghdr message{};
  message.msg_iov = &into;
  message.msg_iovlen = 1;
  message.msg_control = room;
  message.msg_controllen = sizeof(room);
  BOOST_REQUIRE(::recvmsg(qemu.get(), &message, MSG_CMSG_CLOEXEC) == 1);
  const auto* header = CMSG_FIRSTHDR(&message);
  BOOST_REQUIRE(header != nullptr);
  int number = -1;
  std::memcpy(&number, CMSG_DATA(header), sizeof(number));
  unique_fd received{number};
  BOOST_TEST(::read(received.get(), text, 1) == 1); // and it is open for reading
  BOOST_TEST(read_line(qemu.get()) == R"("execute":"getfd"})");
}
