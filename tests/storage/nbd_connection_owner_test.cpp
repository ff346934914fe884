#define BOOST_TEST_MODULE nbd_connection_owner
#include <boost/test/unit_test.hpp>

#include "tests/storage/nbd_talk.hpp"

#include <cerrno>
#include <future>
#include <memory>

using namespace coppice::storage;
using namespace coppice::storage::test;
using n::command;

BOOST_AUTO_TEST_CASE(without_a_disk_every_request_is_told_of_a_shutdown) {
  nbd_server server;
  auto fd = server.connect();
  server.connection->point_to(nullptr);
  auto client = std::async(std::launch::async, [fd] {
    raw_client c{fd};
    c.shake_hands();
    for (const auto& request :
         {request_of(command::write, 9, 0, 8192) + bytes(8192),
          request_of(command::read, 9, 0, 4096), request_of(command::flush, 9, 0, 0),
          request_of(command::trim, 9, 0, 4096), request_of(command::block_status, 9, 0, 4096)}) {
      DEMAND(c.ask(request).error == ESHUTDOWN);
    }
    c.send(disconnect());
  });
  server.turn_until([&] { return server.is_closed; });
  BOOST_CHECK_NO_THROW(client.get());
}

BOOST_AUTO_TEST_CASE(a_write_whose_disk_is_taken_away_while_it_comes_is_refused) {
  nbd_server server;
  auto fd = server.connect();
  raw_client c{fd};
  auto sent = qemu_handshake() + request_of(command::write, 1, 0, 65'536) + bytes(1000);
  c.send(sent);
  server.turn_until([&] { return server.connection->counts().requests == 1; });
  server.connection->point_to(nullptr);
  auto client = std::async(std::launch::async, [&] {
    c.receive(n::greeting_bytes);
    for (int i = 0; i < 6; ++i) {
      c.receive_answer();
    }
    DEMAND(c.ask(bytes(64'536)).error == ESHUTDOWN);
    c.send(disconnect());
  });
  server.turn_until([&] { return server.is_closed; });
  BOOST_CHECK_NO_THROW(client.get());
}

BOOST_AUTO_TEST_CASE(a_disk_is_drained_when_its_last_request_has_ended) {
  nbd_server server;
  server.device.holds = true;
  raw_client c{server.connect()};
  c.send(qemu_handshake() + request_of(command::write, 1, 0, 4096) + pattern(4096, 5) +
         request_of(command::write, 2, 4096, 8192) + bytes(4096)); // half of its payload
  server.turn_until([&] { return server.device.held_count() == 1; });
  auto drained = 0;
  server.connection->point_to(nullptr);
  server.connection->drained([&] { ++drained; });
  BOOST_CHECK_EQUAL(drained, 0);
  server.device.let_go();
  BOOST_CHECK_EQUAL(drained, 1);
  // A new disk gets what comes from now on, also the write that had half come.
  memory_device other{server.on, server.zero_fd, small_disk_bytes, 0};
  server.connection->point_to(&other);
  c.send(bytes(4096, std::byte{7}) + request_of(command::read, 3, 0, 12'288) + disconnect());
  server.turn_until([&] { return server.is_closed; });
  BOOST_CHECK_EQUAL(drained, 1);
  BOOST_CHECK(std::equal(server.device.bytes().begin(), server.device.bytes().begin() + 4096,
                         pattern(4096, 5).begin()));
  BOOST_CHECK(server.device.bytes()[8192] == std::byte{0});
  BOOST_CHECK(other.bytes()[0] == std::byte{0});
  BOOST_CHECK(other.bytes()[8192] == std::byte{7});
}

BOOST_AUTO_TEST_CASE(an_idle_disk_is_drained_at_once) {
  nbd_server server;
  raw_client c{server.connect()};
  auto drained = 0;
  server.connection->point_to(nullptr);
  server.connection->drained([&] { ++drained; });
  BOOST_CHECK_EQUAL(drained, 1);
}

BOOST_AUTO_TEST_CASE(closing_waits_for_the_device) {
  nbd_server server;
  server.device.holds = true;
  raw_client c{server.connect()};
  c.send(qemu_handshake() + request_of(command::read, 1, 0, 4096));
  server.turn_until([&] { return server.device.held_count() == 1; });
  server.connection->close();
  while (server.on.pending() > 0) {
    server.on.turn();
  }
  BOOST_CHECK(!server.is_closed);
  server.device.let_go();
  BOOST_CHECK(server.is_closed);
  BOOST_CHECK_EQUAL(server.reason, "closed by the server");
}

BOOST_AUTO_TEST_CASE(a_peer_that_is_gone_is_told_when_the_device_has_ended) {
  nbd_server server;
  server.device.holds = true;
  raw_client c{server.connect()};
  c.send(qemu_handshake() + request_of(command::read, 1, 0, 4096));
  server.turn_until([&] { return server.device.held_count() == 1; });
  c.close();
  while (server.on.pending() > 0) {
    server.on.turn();
  }
  BOOST_CHECK(!server.is_closed);
  server.device.let_go();
  BOOST_CHECK(server.is_closed);
}

BOOST_AUTO_TEST_CASE(the_connection_may_be_destroyed_when_it_is_closed) {
  nbd_server server;
  int ends[2];
  BOOST_REQUIRE_EQUAL(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  std::unique_ptr<nbd_connection> connection;
  connection = std::make_unique<nbd_connection>(
      server.on, ends[0], nbd_connection::settings{small_disk_bytes, "disk"}, &server.device,
      [&](const std::string&) { connection.reset(); });
  ::close(ends[1]);
  server.turn_until([&] { return connection == nullptr; });
}

BOOST_AUTO_TEST_CASE(replies_that_are_ready_together_go_out_together) {
  nbd_server server;
  server.device.holds = true;
  raw_client c{server.connect()};
  bytes all = qemu_handshake();
  for (unsigned i = 0; i < 16; ++i) {
    all = all + request_of(command::read, i, 4096 * i, 4096);
  }
  c.send(all);
  server.turn_until([&] { return server.device.held_count() == 16; });
  while (server.connection->counts().sends < 4) { // greeting and three options
    server.on.turn();
  }
  auto receives = server.connection->counts().receives;
  auto sends = server.connection->counts().sends;
  server.device.let_go();
  auto client = std::async(std::launch::async, [&] {
    c.receive(n::greeting_bytes);
    for (int i = 0; i < 6; ++i) {
      c.receive_answer();
    }
    for (int i = 0; i < 16; ++i) {
      DEMAND(c.receive_reply().data.size() == 4096);
    }
    c.send(disconnect());
  });
  server.turn_until([&] { return server.is_closed; });
  BOOST_CHECK_NO_THROW(client.get());
  BOOST_CHECK_LE(server.connection->counts().sends - sends, 2u);
  BOOST_CHECK_LE(receives, 3u);
}
