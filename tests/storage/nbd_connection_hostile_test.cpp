#define BOOST_TEST_MODULE nbd_connection_hostile
#include <boost/test/unit_test.hpp>

#include "tests/storage/nbd_talk.hpp"

#include <future>
#include <set>

using namespace coppice::storage;
using namespace coppice::storage::test;
using n::command;

BOOST_AUTO_TEST_CASE(a_client_that_closes_in_the_middle_is_gone) {
  nbd_server server;
  auto hello = qemu_handshake();
  auto request = request_of(command::write, 1, 0, 65'536) + bytes(30'000);
  for (std::size_t cut : {0u, 2u, 10u, 100u}) {
    server.serve([&](raw_client& c) {
      c.send({hello.begin(), hello.begin() + static_cast<long>(cut)});
    });
    BOOST_CHECK(server.reason == "the peer closed the connection" ||
                server.reason.find("failed") != std::string::npos);
  }
  for (std::size_t cut : {5u, 27u, 28u, 29u, 5000u, 30'028u}) {
    server.serve([&](raw_client& c) {
      c.shake_hands();
      c.send({request.begin(), request.begin() + static_cast<long>(cut)});
    });
    BOOST_CHECK_EQUAL(server.reason, "the peer closed the connection");
  }
}

BOOST_AUTO_TEST_CASE(what_cannot_be_followed_ends_the_connection_with_a_reason) {
  nbd_server server;
  auto ends = [&](const bytes& with) {
    server.serve([&](raw_client& c) {
      c.shake_hands();
      c.send(with);
      DEMAND(c.is_closed_by_server());
    });
    return server.reason;
  };
  BOOST_CHECK_EQUAL(ends(request_of(command::write, 1, 0, 0xfffff000)),
                    "a write of 4294963200 bytes");
  BOOST_CHECK_EQUAL(ends(request_of(command::write, 1, 0, (32u << 20) + 1)),
                    "a write of 33554433 bytes");
  BOOST_CHECK_EQUAL(ends(bytes(28)), "a request does not begin with its magic number");
  server.serve([&](raw_client& c) {
    c.receive(n::greeting_bytes);
    c.send(client_flags(0xffff));
    DEMAND(c.is_closed_by_server());
  });
  BOOST_CHECK_NE(server.reason.find("client flags"), std::string::npos);
  server.serve([&](raw_client& c) {
    c.receive(n::greeting_bytes);
    c.send(client_flags() + option_of(n::option::abort));
    DEMAND(c.receive_answer().type == n::option_reply::ack);
    DEMAND(c.is_closed_by_server());
  });
  BOOST_CHECK_EQUAL(server.reason, "the client ended the handshake");
}

BOOST_AUTO_TEST_CASE(a_flood_of_requests_stops_at_the_limit) {
  nbd_server server;
  server.device.holds = true;
  raw_client c{server.connect()};
  bytes flood = qemu_handshake();
  for (unsigned i = 0; i < 1000; ++i) {
    flood = flood + request_of(command::read, i, 4096 * i, 4096);
  }
  c.send(flood);
  server.turn_until([&] { return server.device.held_count() == nbd_connection::requests_max; });
  while (server.on.pending() > 0) {
    server.on.turn(); // the last replies of the handshake
  }
  // Nothing is received any more: the client waits.
  BOOST_CHECK_EQUAL(server.device.held_count(), nbd_connection::requests_max);
  server.device.holds = false;
  server.device.let_go();
  auto reader = std::async(std::launch::async, [&] {
    c.receive(n::greeting_bytes);
    for (int i = 0; i < 6; ++i) {
      c.receive_answer();
    }
    std::set<std::uint64_t> cookies;
    while (cookies.size() < 1000) {
      auto reply = c.receive_reply();
      DEMAND(reply.offset == 4096 * reply.cookie && reply.data.size() == 4096);
      cookies.insert(reply.cookie);
    }
    c.send(disconnect());
  });
  server.turn_until([&] { return server.is_closed; });
  BOOST_CHECK_NO_THROW(reader.get());
  BOOST_CHECK_EQUAL(server.connection->counts().requests_peak, nbd_connection::requests_max);
}

BOOST_AUTO_TEST_CASE(replies_that_are_not_read_take_no_more_than_the_limit) {
  nbd_server server;
  server.device.holds = true;
  raw_client c{server.connect()};
  bytes flood = qemu_handshake();
  for (unsigned i = 0; i < 150; ++i) {
    flood = flood + request_of(command::read, i, 0, 1 * mib);
  }
  c.send(flood);
  server.turn_until([&] { return server.device.held_count() == 32; });
  while (server.on.pending() > 0) {
    server.on.turn();
  }
  server.device.holds = false;
  server.device.let_go();
  BOOST_CHECK_EQUAL(server.on.pending(), 1u); // one send that nobody takes, and no receive
  BOOST_CHECK_EQUAL(server.connection->counts().requests, 32u);
  auto reader = std::async(std::launch::async, [&] {
    c.receive(n::greeting_bytes);
    for (int i = 0; i < 6; ++i) {
      c.receive_answer();
    }
    for (unsigned i = 0; i < 150; ++i) {
      DEMAND(c.receive_reply().data.size() == mib);
    }
    c.close();
  });
  server.turn_until([&] { return server.is_closed; });
  BOOST_CHECK_NO_THROW(reader.get());
  BOOST_CHECK_EQUAL(server.connection->counts().payload_bytes_peak,
                    nbd_connection::payload_bytes_max);
}

BOOST_AUTO_TEST_CASE(writes_count_before_their_payload_has_come) {
  nbd_server server;
  server.device.holds = true;
  server.serve([&](raw_client& c) {
    c.shake_hands();
    c.send(request_of(command::write, 1, 0, 32 * mib) + bytes(1000));
  });
  BOOST_CHECK_EQUAL(server.connection->counts().payload_bytes_peak, 32 * mib);
  BOOST_CHECK_EQUAL(server.device.held_count(), 0u);
}
