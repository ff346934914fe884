#define BOOST_TEST_MODULE nbd_connection_qemu
#include <boost/test/unit_test.hpp>

#include "tests/storage/nbd_talk.hpp"

#include <boost/json.hpp>

#include <algorithm>
#include <future>
#include <random>
#include <sstream>
#include <vector>

using namespace coppice::storage;
using namespace coppice::storage::test;
using n::command;

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
