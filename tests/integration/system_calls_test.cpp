#define BOOST_TEST_MODULE system_calls
#include "tests/integration/node.hpp"

#include <boost/test/unit_test.hpp>

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

using namespace coppice::test;
namespace fs = std::filesystem;

namespace {

std::string content(const fs::path& file) {
  std::ifstream in{file};
  return {std::istreambuf_iterator<char>{in}, {}};
}

/// strace on a process and all that it starts, until it is taken off again.
class observer {
public:
  observer(pid_t target, fs::path folder) : folder_{std::move(folder)} {
    auto pid = std::to_string(target);
    auto trace = (folder_ / "trace").string();
    auto errors = (folder_ / "errors").string();
    // %file takes a path, %desc a descriptor; -y names what a descriptor is of.
    const char* arguments[] = {
        "strace", "-f",          "-y", "-q",        "-e",   "trace=%file,%desc",
        "-o",     trace.c_str(), "-p", pid.c_str(), nullptr};
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 2, errors.c_str(), O_WRONLY | O_CREAT, 0600);
    auto failed = ::posix_spawnp(&pid_, "strace", &files, nullptr,
                                 const_cast<char* const*>(arguments), environ);
    posix_spawn_file_actions_destroy(&files);
    BOOST_REQUIRE_MESSAGE(failed == 0, "strace cannot be started: install it");
  }
  observer(const observer&) = delete;
  observer& operator=(const observer&) = delete;
  ~observer() {
    stop();
  }

  /// Whether this machine lets one process look at another.
  bool is_refused() const {
    return content(folder_ / "errors").find("not permitted") != std::string::npos;
  }

  void stop() {
    if (pid_ > 0) {
      ::kill(pid_, SIGINT);
      ::waitpid(std::exchange(pid_, -1), nullptr, 0);
    }
  }

  std::vector<std::string> lines() const {
    std::vector<std::string> out;
    std::ifstream in{folder_ / "trace"};
    for (std::string line; std::getline(in, line);) {
      out.push_back(std::move(line));
    }
    return out;
  }

private:
  fs::path folder_;
  pid_t pid_ = -1;
};

bool is_traced(pid_t pid) {
  auto status = content("/proc/" + std::to_string(pid) + "/status");
  return status.find("TracerPid:\t0\n") == std::string::npos;
}

} // namespace

// What blocks on the disk must not hold a thread: of the store's files, only LMDB's are touched by
// ordinary system calls.
BOOST_AUTO_TEST_CASE(an_upload_and_a_run_touch_the_store_through_io_uring_alone) {
  state_folder folder;
  state_folder notes;
  node server{folder.path()};
  auto base = server.import_busybox();
  if (server.log().find("disk_io=io_uring") == std::string::npos) {
    std::cout << "SKIPPED: io_uring is not available here, so there is nothing to see\n";
    return;
  }
  observer seen{server.pid(), notes.path()};
  eventually("strace sees the daemon",
             [&] { return is_traced(server.pid()) || seen.is_refused(); });
  if (seen.is_refused()) {
    std::cout << "SKIPPED: this machine lets no process trace another\n";
    return;
  }
  auto upload = server.connect().request("POST", "/v1/files", "from an upload\n",
                                         {{"Content-Type", "application/octet-stream"}});
  BOOST_REQUIRE_EQUAL(upload.status, 201u);
  auto done = server.run({{"command", "cat /root/given; echo more > /root/x"},
                          {"shell", true},
                          {"image", base},
                          {"files", {{"/root/given", {{"uuid", upload.json().at("uuid")}}}}}});
  BOOST_REQUIRE_EQUAL(status_of(done), "SUCCESS");
  BOOST_TEST(stdout_of(done) == "from an upload\n");
  BOOST_TEST(!result_image_of(done).empty());
  seen.stop();
  auto is_below = [&](const std::string& line, const char* name) {
    return line.find((folder.path() / name).string() + "/") != std::string::npos;
  };
  std::size_t of_catalog = 0;
  for (const auto& line : seen.lines()) {
    of_catalog += is_below(line, "catalog") ? 1 : 0;
    for (const auto* name : {"images", "blobs", "uploads", "tmp"}) {
      auto is_close = line.find(" close(") != std::string::npos; // never waits for the disk
      BOOST_TEST((is_close || !is_below(line, name)), line);
    }
  }
  BOOST_TEST(of_catalog > 0u, "the trace shows nothing at all of a run");
}
