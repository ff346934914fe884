#define BOOST_TEST_MODULE disk_full
#include "tests/integration/node.hpp"

#include <boost/test/unit_test.hpp>

#include <sys/mount.h>

#include <cerrno>
#include <cstring>
#include <string>

using namespace coppice::test;

namespace {

/// A state folder on a disk of its own that is small enough to fill.
class small_disk {
public:
  explicit small_disk(const char* size) {
    BOOST_REQUIRE_MESSAGE(::mount("none", folder_.path().c_str(), "tmpfs", 0, size) == 0,
                          "mounting a small disk: " << std::strerror(errno));
  }
  ~small_disk() {
    ::umount2(folder_.path().c_str(), MNT_DETACH);
  }

  const std::filesystem::path& path() const {
    return folder_.path();
  }

private:
  state_folder folder_;
};

} // namespace

BOOST_AUTO_TEST_CASE(a_full_disk_fails_the_run_that_fills_it_and_nothing_else) {
  small_disk disk{"size=48m"};
  node server{disk.path()};
  auto base = server.import_busybox();
  auto kept = result_image_of(server.shell(base, "echo precious > /root/f"));

  auto done = server.shell(base, "dd if=/dev/urandom of=/root/big bs=1M count=200; sync");
  BOOST_TEST(status_of(done) == "FAILED");
  BOOST_TEST(error_of(done).find("No space left") != std::string::npos, error_of(done));
  BOOST_TEST(done.at("result_image_uuid").is_null());
  BOOST_TEST(overlays_in(disk.path()) == 0u);

  // The daemon goes on, at once, and what was there is there.
  BOOST_TEST(stdout_of(server.shell(kept, "cat /root/f")) == "precious\n");

  // An upload that does not fit is refused and leaves nothing.
  auto refused = server.connect().request("POST", "/v1/files", std::string(64u << 20, 'x'));
  BOOST_TEST(refused.status == 507u);
  BOOST_TEST(std::filesystem::is_empty(disk.path() / "uploads"));
  BOOST_TEST(server.connect().request("POST", "/v1/files", "small").status == 201u);
}
