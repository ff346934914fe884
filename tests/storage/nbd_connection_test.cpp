#define BOOST_TEST_MODULE nbd_connection
#include <boost/test/unit_test.hpp>

#include "storage/disk/buffer_pool.hpp"
#include "tests/storage/nbd_talk.hpp"

#include <cerrno>
#include <cstring>
#include <map>
#include <random>
#include <vector>

using namespace coppice::storage;
using namespace coppice::storage::test;
using n::command;

namespace {

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
