#define BOOST_TEST_MODULE disk_full
#include "tests/integration/node.hpp"

#include <boost/test/unit_test.hpp>

#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

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

/// Leaves so much of a disk free.
void fill(const std::filesystem::path& folder, std::uintmax_t free_bytes) {
  auto file = folder / "ballast";
  auto fd = ::open(file.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  auto take = std::filesystem::space(folder).available - free_bytes;
  BOOST_REQUIRE(::posix_fallocate(fd, 0, static_cast<off_t>(take)) == 0);
  ::close(fd);
}

} // namespace

BOOST_AUTO_TEST_CASE(a_full_disk_fails_the_run_that_fills_it_and_nothing_else) {
  small_disk disk{"size=48m"};
  node server{disk.path(), {"--store.reserve_bytes=0"}};
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

BOOST_AUTO_TEST_CASE(below_the_reserve_new_work_is_refused_and_running_work_ends) {
  small_disk disk{"size=96m"};
  node server{disk.path(), {"--store.reserve_bytes=32MiB"}};
  auto base = server.import_busybox();
  auto running = server.spawn(
      {{"command", "sleep 5; echo kept > /root/f; echo ended"}, {"shell", true}, {"image", base}});
  server.wait_for(running, {"EXECUTING", "SUCCESS"});
  fill(disk.path(), 24u << 20);
  auto client = server.connect();
  const boost::json::value order = {{"command", "true"}, {"image", base}};
  const boost::json::value import = {{"registry", {{"url", "docker://registry.invalid/x:1"}}}};
  eventually("new work is refused", [&] { // what is free is looked at once a second
    return client.post("/v1/instances", order).status == 507;
  });
  auto refused = client.post("/v1/instances", order);
  BOOST_TEST(refused.status == 507u);
  BOOST_TEST(refused.body.find("32 MiB are kept in reserve") != std::string::npos, refused.body);
  BOOST_TEST(client.post("/v1/images/import", import).status == 507u);
  BOOST_TEST(server.connect().request("POST", "/v1/files", "small").status == 507u);
  BOOST_TEST(client.get("/healthz").status == 200u);
  auto done = server.wait(running);
  BOOST_TEST(status_of(done) == "SUCCESS", error_of(done));
  BOOST_TEST(stdout_of(done) == "ended\n");
  BOOST_TEST(!result_image_of(done).empty());
  std::filesystem::remove(disk.path() / "ballast");
  eventually("new work is taken again",
             [&] { return server.connect().request("POST", "/v1/files", "small").status == 201; });
  BOOST_TEST(stdout_of(server.shell(result_image_of(done), "cat /root/f")) == "kept\n");
}
