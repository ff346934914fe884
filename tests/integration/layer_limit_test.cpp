#define BOOST_TEST_MODULE layer_limit
#include "tests/integration/node.hpp"

#include <boost/test/unit_test.hpp>

#include <sstream>
#include <string>

using namespace coppice::test;

namespace {

constexpr std::int64_t limit_bytes = 8 << 20;

boost::json::object limited(const std::string& image, const std::string& script) {
  return {{"command", script},
          {"shell", true},
          {"image", image},
          {"resources_limits", {{"max_layer_bytes", limit_bytes}}}};
}

} // namespace

BOOST_AUTO_TEST_CASE(a_program_gets_enospc_at_the_limit_and_the_run_succeeds) {
  state_folder folder;
  node server{folder.path()};
  auto base = server.import_busybox();
  auto done = server.run(limited(base, "df -k / | tail -n 1 | awk '{print $4}';"
                                       "dd if=/dev/urandom of=/root/big bs=64k count=400;"
                                       "code=$?; wc -c < /root/big; exit $code"));
  BOOST_REQUIRE_MESSAGE(status_of(done) == "SUCCESS", error_of(done));
  BOOST_TEST(exit_code_of(done) != 0);
  BOOST_TEST(stderr_of(done).find("No space left on device") != std::string::npos, stderr_of(done));
  std::istringstream said{stdout_of(done)};
  std::int64_t free_kib = 0;
  std::int64_t written = 0;
  BOOST_REQUIRE_MESSAGE(said >> free_kib >> written, stdout_of(done));
  BOOST_TEST(free_kib > limit_bytes / 1024 * 9 / 10);
  BOOST_TEST(free_kib <= limit_bytes / 1024);
  BOOST_TEST(written > limit_bytes * 9 / 10);
  BOOST_TEST(written <= limit_bytes);
  // What fitted is kept, and a run from it may add as much again.
  auto kept = result_image_of(done);
  BOOST_REQUIRE(!kept.empty());
  auto next = server.run(limited(kept, "wc -c < /root/big; echo more > /root/more"));
  BOOST_TEST(status_of(next) == "SUCCESS");
  BOOST_TEST(stdout_of(next) == std::to_string(written) + "\n");
}

BOOST_AUTO_TEST_CASE(a_guest_that_writes_past_its_file_system_fails_alone_and_hears_why) {
  state_folder folder;
  node server{folder.path(), {"--pool.ceiling=0"}};
  auto base = server.import_busybox();
  for (bool disposable : {false, true}) {
    auto order = limited(
        base, "dd if=/dev/urandom of=/dev/vda bs=1M seek=20000 count=100 conv=fsync; sleep 1000");
    order["disposable"] = disposable;
    auto done = server.run(order);
    BOOST_TEST(status_of(done) == "FAILED");
    BOOST_TEST(error_of(done).find("max_layer_bytes, " + std::to_string(limit_bytes)) !=
                   std::string::npos,
               error_of(done));
    BOOST_TEST(error_of(done).find("bytes when") != std::string::npos, error_of(done));
    BOOST_TEST(done.at("result_image_uuid").is_null());
    eventually("nothing of the VM is left", [&] {
      return descendants_of(server.pid()).empty() && overlays_in(folder.path()) == 0;
    });
  }
  BOOST_TEST(stdout_of(server.shell(base, "echo next")) == "next\n");
}
