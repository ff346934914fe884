#define BOOST_TEST_MODULE nbd_connection
#include <boost/test/unit_test.hpp>

#include "storage/disk/buffer_pool.hpp"
#include "tests/storage/nbd_server.hpp"

#include <boost/json.hpp>

#include <cerrno>
#include <set>
#include <sstream>

using namespace coppice::storage;
using namespace coppice::storage::test;
using n::command;

namespace {

constexpr std::uint32_t mib = 1u << 20;

bytes pattern(std::size_t count, unsigned seed) {
  bytes out(count);
  for (std::size_t i = 0; i < count; ++i) {
    out[i] = static_cast<std::byte>(i / 511 + i + seed * 37);
  }
  return out;
}

void demand(bool holds, const char* what) {
  if (!holds) {
    throw std::runtime_error{what};
  }
}

#define DEMAND(condition) demand(condition, #condition)

bytes disconnect() {
  return request_of(command::disc, 0, 0, 0);
}

/// One of each, with the replies that they must have.
void talk(raw_client& c, std::size_t piece = 1u << 30) {
  c.receive(n::greeting_bytes);
  c.send(qemu_handshake(), piece);
  for (int i = 0; i < 6; ++i) {
    c.receive_answer();
  }
  auto data = pattern(40'960, 1);
  c.send(request_of(command::write, 1, 8192, 40'960) + data, piece);
  auto written = c.receive_reply();
  DEMAND(written.cookie == 1 && written.error == 0 && written.type == n::chunk::none);
  c.send(request_of(command::flush, 2, 0, 0), piece);
  DEMAND(c.receive_reply().error == 0);
  c.send(request_of(command::trim, 3, 8192, 4096), piece);
  DEMAND(c.receive_reply().error == 0);
  c.send(request_of(command::write_zeroes, 4, 16'384, 4096, n::flag_no_hole | n::flag_fua), piece);
  DEMAND(c.receive_reply().error == 0);
  c.send(request_of(command::read, 5, 4096, 45'056, n::flag_df), piece);
  auto read = c.receive_reply();
  DEMAND(read.type == n::chunk::offset_data && read.offset == 4096);
  auto expected = bytes(4096) + data;
  std::fill_n(expected.begin() + 4096, 4096, std::byte{0});
  std::fill_n(expected.begin() + 12'288, 4096, std::byte{0});
  DEMAND(read.data == expected);
  c.send(request_of(command::block_status, 6, 8192, 16'384), piece);
  auto status = c.receive_reply();
  DEMAND(status.type == n::chunk::block_status);
  bytes descriptors;
  for (auto word : {4096u, 3u, 4096u, 0u, 4096u, 3u, 4096u, 0u}) {
    put(descriptors, std::uint32_t{word});
  }
  DEMAND(status.data == descriptors);
  c.send(request_of(command::block_status, 7, 8192, 16'384, n::flag_req_one), piece);
  descriptors.resize(8);
  DEMAND(c.receive_reply().data == descriptors);
  c.send(disconnect(), piece);
  DEMAND(c.is_closed_by_server());
}

} // namespace

BOOST_AUTO_TEST_CASE(each_command_is_answered_as_the_protocol_says) {
  nbd_server server;
  server.serve([](raw_client& c) { talk(c); });
  BOOST_CHECK_EQUAL(server.reason, "the client disconnected");
  BOOST_CHECK_EQUAL(server.connection->counts().requests, 7u);
  BOOST_CHECK_EQUAL(server.connection->counts().errors, 0u);
  BOOST_CHECK_EQUAL(server.connection->counts().written_bytes, 40'960u);
  BOOST_CHECK_EQUAL(server.connection->counts().read_bytes, 45'056u);
}

BOOST_AUTO_TEST_CASE(threads_serve_as_io_uring_does) {
  nbd_server server{3, true};
  server.serve([](raw_client& c) { talk(c); });
  BOOST_CHECK_EQUAL(server.reason, "the client disconnected");
}

BOOST_AUTO_TEST_CASE(bytes_may_come_and_go_in_any_pieces) {
  for (std::size_t piece : {1u, 2u, 3u, 7u, 27u, 28u, 29u, 4095u, 4097u}) {
    nbd_server server;
    server.on.piece_max = piece;
    server.serve([](raw_client& c) { talk(c); });
    BOOST_CHECK_EQUAL(server.reason, "the client disconnected");
  }
  nbd_server server;
  server.serve([](raw_client& c) { talk(c, 1); });
  BOOST_CHECK_EQUAL(server.reason, "the client disconnected");
}

BOOST_AUTO_TEST_CASE(a_client_that_knows_only_simple_replies_is_served) {
  nbd_server server;
  server.serve([](raw_client& c) {
    c.receive(n::greeting_bytes);
    c.send(client_flags() + option_of(n::option::export_name));
    c.receive(10);
    DEMAND(c.ask(request_of(command::write, 1, 0, 4096) + pattern(4096, 2)).error == 0);
    DEMAND(c.ask(request_of(command::read, 2, 0, 4096)).type == n::chunk::none);
    DEMAND(c.receive(4096) == pattern(4096, 2));
    DEMAND(c.ask(request_of(command::read, 3, 512, 4096)).error == EINVAL);
    DEMAND(c.ask(request_of(command::block_status, 4, 0, 4096)).error == EINVAL);
    c.send(disconnect());
  });
}

BOOST_AUTO_TEST_CASE(refused_requests_leave_the_connection_alive) {
  nbd_server server;
  server.serve([](raw_client& c) {
    c.shake_hands();
    auto big = pattern(300'000, 3);
    big.resize(204'800);
    for (const auto& refused :
         {request_of(command::write, 9, 512, 204'800) + big, // its payload is skipped
          request_of(command::write, 9, small_disk_bytes - 4096, 204'800) + big,
          request_of(command::write, 9, 0, 100) + bytes(100),
          request_of(command::read, 9, 0, 33 * mib), request_of(command::read, 9, 100, 4096),
          request_of(command::trim, 9, small_disk_bytes, 4096),
          request_of(command::flush, 9, 4096, 0), request_of(static_cast<command>(55), 9, 0, 0),
          request_of(command::read, 9, 0, 4096, 1u << 9)}) {
      auto reply = c.ask(refused);
      DEMAND(reply.error == EINVAL && reply.cookie == 9);
    }
    DEMAND(c.ask(request_of(command::read, 1, 0, 4096)).data == bytes(4096));
    c.send(disconnect());
  });
  BOOST_CHECK_EQUAL(server.connection->counts().errors, 9u);
  BOOST_CHECK_EQUAL(server.connection->counts().written_bytes, 0u);
}

BOOST_AUTO_TEST_CASE(errors_of_the_device_reach_the_client) {
  nbd_server server;
  server.device.error_number = ENOSPC;
  server.serve([](raw_client& c) {
    c.shake_hands();
    for (const auto& request :
         {request_of(command::write, 9, 0, 4096) + bytes(4096),
          request_of(command::read, 9, 0, 4096), request_of(command::trim, 9, 0, 4096),
          request_of(command::write_zeroes, 9, 0, 4096)}) {
      DEMAND(c.ask(request).error == ENOSPC);
    }
    c.send(disconnect());
  });
}

BOOST_AUTO_TEST_CASE(ten_thousand_requests_in_any_order_agree_with_a_model) {
  nbd_server server{4};
  server.serve([](raw_client& c) {
    constexpr unsigned clusters = 256;
    std::mt19937 random{11};
    bytes model(clusters * cluster_bytes);
    std::vector<bool> is_locked(clusters);
    struct sent {
      command what;
      unsigned first, count;
    };
    std::map<std::uint64_t, sent> in_air;
    auto take_reply = [&] {
      auto reply = c.receive_reply();
      auto it = in_air.find(reply.cookie);
      DEMAND(it != in_air.end() && reply.error == 0);
      auto [what, first, count] = it->second;
      if (what == command::read) {
        DEMAND(reply.offset == first * cluster_bytes);
        DEMAND(reply.data.size() == count * cluster_bytes &&
               std::equal(reply.data.begin(), reply.data.end(),
                          model.begin() + static_cast<long>(first * cluster_bytes)));
      }
      std::fill_n(is_locked.begin() + first, count, false);
      in_air.erase(it);
    };
    c.shake_hands();
    for (unsigned done = 0; done < 10'000;) {
      auto first = static_cast<unsigned>(random() % clusters);
      auto count = 1 + static_cast<unsigned>(random() % (random() % 8 == 0 ? 24 : 2));
      auto is_free = first + count <= clusters &&
                     std::none_of(is_locked.begin() + first, is_locked.begin() + first + count,
                                  [](bool locked) { return locked; });
      if (!is_free || in_air.size() == 40) {
        if (!in_air.empty()) {
          take_reply();
        }
        continue;
      }
      ++done;
      constexpr std::array commands{command::read, command::read, command::write, command::write,
                                    command::write_zeroes};
      auto what = commands[random() % commands.size()];
      auto offset = first * cluster_bytes;
      auto length = static_cast<std::uint32_t>(count * cluster_bytes);
      auto request = request_of(what, done, offset, length);
      auto at = model.begin() + static_cast<long>(offset);
      if (what == command::write) {
        auto data = pattern(length, done);
        std::copy(data.begin(), data.end(), at);
        request = request + data;
      } else if (what == command::write_zeroes) {
        std::fill_n(at, length, std::byte{0});
      }
      std::fill_n(is_locked.begin() + first, count, true);
      in_air.emplace(done, sent{what, first, count});
      c.send(request);
    }
    while (!in_air.empty()) {
      take_reply();
    }
    c.send(disconnect());
  });
  BOOST_CHECK_EQUAL(server.connection->counts().requests, 10'000u);
  BOOST_CHECK_LE(server.connection->counts().requests_peak, 40u);
}

BOOST_AUTO_TEST_SUITE(hostile)

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

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(owner)

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

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(clients)

BOOST_AUTO_TEST_CASE(qemu_io_reads_what_it_wrote) {
  nbd_server server{3};
  server.serve_program("qemu-io -f raw -c 'write -P 17 0 1M' -c 'write -P 18 512k 4k' "
                       "-c 'write -P 19 1023 513' -c 'flush' {}");
  server.serve_program("qemu-io -f raw -d unmap -c 'read -P 18 512k 4k' -c 'read -P 17 516k 508k' "
                       "-c 'read -P 19 1023 513' -c 'discard 64k 64k' -c 'write -z 256k 64k' "
                       "-c 'write -zu 384k 4k' -c 'read -P 0 64k 64k' -c 'read -P 0 256k 64k' "
                       "-c 'read -P 0 384k 4k' -c 'read -P 0 60M 4M' "
                       "-c 'aio_write -P 5 1M 32M' -c 'aio_write -P 6 40M 16M' -c aio_flush "
                       "-c 'read -P 5 1M 32M' -c 'read -P 6 40M 16M' {}");
  BOOST_CHECK(server.device.bytes()[33 * mib - 1] == std::byte{5});
  BOOST_CHECK_EQUAL(server.reason, "the client disconnected");
}

BOOST_AUTO_TEST_CASE(qemu_takes_the_other_end_of_a_socket_pair) {
  nbd_server server;
  auto fd = server.connect();
  ::fcntl(fd, F_SETFD, 0); // inherited
  auto disk = "driver=nbd,server.type=fd,export=disk,server.str=" + std::to_string(fd);
  auto program = std::async(std::launch::async, [&] {
    return run("qemu-io -c 'write -P 3 4k 8k' -c 'read -P 3 4k 8k' --image-opts " + disk);
  });
  server.turn_until([&] { return server.is_closed; });
  auto done = program.get();
  ::close(fd);
  BOOST_CHECK_MESSAGE(done.status == 0, done.output);
  BOOST_CHECK_EQUAL(server.reason, "the client disconnected");
  BOOST_CHECK(server.device.bytes()[12'287] == std::byte{3});
}

BOOST_AUTO_TEST_CASE(qemu_img_sees_size_and_map) {
  nbd_server server;
  server.serve_program("qemu-io -f raw -c 'write -P 1 0 64k' -c 'write -P 1 1M 4k' {}");
  auto info = boost::json::parse(server.serve_program("qemu-img info -f raw --output=json {}"));
  BOOST_CHECK_EQUAL(info.at("virtual-size").to_number<std::uint64_t>(), small_disk_bytes);
  auto map = boost::json::parse(server.serve_program("qemu-img map -f raw --output=json {}"));
  std::ostringstream runs;
  for (const auto& run : map.as_array()) {
    runs << run.at("start") << "+" << run.at("length") << run.at("zero") << " ";
  }
  BOOST_CHECK_EQUAL(runs.str(), "0+65536false 65536+983040true 1048576+4096false "
                                "1052672+66056192true ");
}

BOOST_AUTO_TEST_CASE(ten_thousand_commands_of_qemu_io_agree_with_a_model) {
  nbd_server server{2};
  constexpr unsigned clusters = 64;
  std::mt19937 random{5};
  std::vector<unsigned> model(clusters);
  std::ostringstream script;
  for (unsigned i = 0; i < 10'000; ++i) {
    auto first = static_cast<unsigned>(random() % clusters);
    auto count = 1 + static_cast<unsigned>(random() % std::min(4u, clusters - first));
    auto value = 1 + static_cast<unsigned>(random() % 250);
    auto range = " " + std::to_string(first * 4) + "k ";
    switch (random() % 4) {
    case 0:
      script << "write -q -P " << value << range << count * 4 << "k\n";
      std::fill_n(model.begin() + first, count, value);
      break;
    case 1:
      script << (i % 2 == 0 ? "write -q -z" : "write -q -zu") << range << count * 4 << "k\n";
      std::fill_n(model.begin() + first, count, 0);
      break;
    default:
      count =
          static_cast<unsigned>(std::find_if(model.begin() + first, model.begin() + first + count,
                                             [&](unsigned v) { return v != model[first]; }) -
                                (model.begin() + first));
      script << "read -q -P " << model[first] << range << count * 4 << "k\n";
    }
  }
  write_at(server.dir / "script", 0, bytes_of(script.str()));
  auto output = server.serve_program("qemu-io -f raw {} < " + (server.dir / "script").string() +
                                     " | tr -d '\\r'");
  BOOST_CHECK_EQUAL(output.find("verification failed"), std::string::npos);
  BOOST_CHECK_EQUAL(output.find("rror"), std::string::npos);
  BOOST_CHECK_GE(server.connection->counts().requests, 10'000u);
  for (unsigned i = 0; i < clusters; ++i) {
    BOOST_REQUIRE_EQUAL(std::to_integer<unsigned>(server.device.bytes()[i * 4096 + 100]), model[i]);
  }
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_CASE(the_pool_gives_the_last_buffer_again_and_keeps_little) {
  buffer_pool pool{64u << 10};
  auto first = pool.take(5000);
  auto* data = first.data();
  BOOST_CHECK_EQUAL(reinterpret_cast<std::uintptr_t>(data) % 4096, 0u);
  std::memset(data - buffer_pool::buffer::before_bytes, 1, 4096 + 8192);
  pool.give(std::move(first));
  auto again = pool.take(8192);
  BOOST_CHECK(again.data() == data);
  pool.give(std::move(again));
  auto other = pool.take(4096);
  BOOST_CHECK(other.data() != data);
  auto great = pool.take(32u << 20);
  std::memset(great.data(), 1, 32u << 20);
  pool.give(std::move(great)); // too great to be kept
  pool.trim();
}
