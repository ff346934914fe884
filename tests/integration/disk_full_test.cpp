#define BOOST_TEST_MODULE disk_full
#include "tests/integration/node.hpp"

#include <boost/test/unit_test.hpp>

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <future>
#include <iostream>
#include <iterator>
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

  /// From now on there is place for so much more.
  void leave(std::uint64_t bytes) {
    struct statvfs now {};
    BOOST_REQUIRE(::statvfs(path().c_str(), &now) == 0);
    set("size=" + std::to_string((now.f_blocks - now.f_bfree) * now.f_frsize + bytes));
  }
  void grow() {
    set("size=64m");
  }

private:
  void set(const std::string& option) {
    BOOST_REQUIRE_MESSAGE(::mount("none", path().c_str(), "tmpfs", MS_REMOUNT, option.c_str()) == 0,
                          "changing a small disk: " << std::strerror(errno));
  }

  state_folder folder_;
};

struct outcome {
  int status = -1;
  std::string output;
};

/// Any thread.
outcome run_command(const std::string& line) {
  outcome out;
  auto* pipe = ::popen((line + " 2>&1").c_str(), "r");
  if (pipe == nullptr) {
    return out;
  }
  std::array<char, 4096> buffer{};
  for (std::size_t n = 0; (n = std::fread(buffer.data(), 1, buffer.size(), pipe)) > 0;) {
    out.output.append(buffer.data(), n);
  }
  out.status = ::pclose(pipe);
  return out;
}

bool says_no_space(const std::string& text) {
  return text.find("No space left") != text.npos;
}

/// How often the daemon found no place for the record of an operation's end: it tries again until
/// there is some.
std::size_t ends_not_recorded(const node& server) {
  std::size_t n = 0;
  auto log = server.log();
  for (auto at = log.find("end not recorded"); at != log.npos;
       at = log.find("end not recorded", at + 1)) {
    ++n;
  }
  return n;
}

/// Nothing of unfinished work.
void check_no_leftovers(const std::filesystem::path& state) {
  eventually("nothing unfinished is left",
             [&] { return overlays_in(state) == 0u && std::filesystem::is_empty(state / "tmp"); });
}

std::size_t images_in(const std::filesystem::path& state) {
  auto all = std::filesystem::directory_iterator{state / "images"};
  return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

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

BOOST_AUTO_TEST_CASE(an_import_fails_wherever_the_disk_is_full_and_succeeds_when_it_is_not) {
  small_disk disk{"size=64m"};
  state_folder elsewhere;
  auto layout = elsewhere.path() / "layout";
  auto script = source_dir() / "configs" / "base-image" / "build.sh";
  BOOST_REQUIRE(std::system((script.string() + " " + layout.string() + " >/dev/null").c_str()) ==
                0);
  node server{disk.path(), {"--store.reserve_bytes=0"}};
  auto import = [&] {
    return run_command(program().string() + " import oci:" + layout.string() +
                       " --tag busybox:latest --state-dir=" + disk.path().string());
  };
  std::size_t failed = 0;
  constexpr std::uint64_t kib = 1024;
  for (auto spare : {0 * kib, 32 * kib, 128 * kib, 512 * kib, 768 * kib, 1024 * kib, 1280 * kib,
                     1536 * kib, 2048 * kib, 4096 * kib}) {
    auto before = ends_not_recorded(server);
    disk.leave(spare);
    auto importing = std::async(std::launch::async, import);
    eventually("the import ends, or the catalog has no place for its end", [&] {
      return importing.wait_for(std::chrono::seconds{0}) == std::future_status::ready ||
             ends_not_recorded(server) > before;
    });
    disk.grow();
    auto done = importing.get();
    if (done.status == 0) {
      break; // there was enough
    }
    ++failed;
    BOOST_TEST(says_no_space(done.output), spare << " bytes: " << done.output);
    check_no_leftovers(disk.path());
    BOOST_TEST(images_in(disk.path()) == 0u);
  }
  std::cout << "an import failed at " << failed << " sizes of the disk\n";
  BOOST_TEST(failed >= 4u);
  disk.grow();
  BOOST_REQUIRE(import().status == 0);
  auto found = server.connect().get("/v1/inspect/?tag=busybox:latest").header("Location");
  auto base = found.substr(0, found.find('/'));
  BOOST_TEST(stdout_of(server.shell(base, "echo works")) == "works\n");
  check_no_leftovers(disk.path());
}

BOOST_AUTO_TEST_CASE(a_run_fails_wherever_the_disk_is_full_and_the_next_one_succeeds) {
  small_disk disk{"size=64m"};
  node server{disk.path(), {"--store.reserve_bytes=0"}};
  auto base = server.import_busybox();
  auto client = server.connect();
  std::size_t failed = 0;
  std::size_t refused = 0;
  constexpr std::uint64_t kib = 1024;
  for (auto spare : {0 * kib, 16 * kib, 64 * kib, 256 * kib, 1024 * kib, 4096 * kib}) {
    auto before = ends_not_recorded(server);
    disk.leave(spare);
    boost::json::object request{
        {"command", "dd if=/dev/urandom of=/root/big bs=64k count=160; sync; echo done"},
        {"shell", true},
        {"image", base}};
    auto answer = client.post("/v1/instances", boost::json::value(request));
    if (answer.status == 201) {
      std::string operation{answer.json().at("uuid").as_string()};
      eventually("the run ends, or the catalog has no place for its end", [&] {
        auto now = client.get("/v1/operations/" + operation).json().as_object();
        return status_of(now) == "FAILED" || status_of(now) == "SUCCESS" ||
               ends_not_recorded(server) > before;
      });
      disk.grow();
      auto done = server.wait(operation);
      ++failed;
      BOOST_TEST(status_of(done) == "FAILED", spare << " bytes");
      BOOST_TEST(says_no_space(error_of(done)), spare << " bytes: " << error_of(done));
      BOOST_TEST(done.at("result_image_uuid").is_null());
    } else {
      ++refused;
      BOOST_TEST(answer.status == 507u, answer.body);
    }
    disk.grow();
    check_no_leftovers(disk.path());
    BOOST_TEST(images_in(disk.path()) == 1u);
    BOOST_TEST(stdout_of(server.shell(base, "echo works")) == "works\n");
  }
  std::cout << "a run failed at " << failed << " sizes of the disk, and was refused at " << refused
            << "\n";
  BOOST_TEST(failed >= 3u);
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
