#define BOOST_TEST_MODULE recovery
#include "tests/integration/node.hpp"

#include <boost/test/unit_test.hpp>

#include <signal.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

using namespace coppice::test;
namespace fs = std::filesystem;

namespace {

std::size_t files_in(const fs::path& folder) {
  std::size_t n = 0;
  for ([[maybe_unused]] const auto& e : fs::directory_iterator{folder}) {
    ++n;
  }
  return n;
}

boost::json::object long_run(const std::string& image) {
  return {{"command", "echo begun; sleep 1000"}, {"shell", true}, {"image", image}};
}

/// The QEMU among the descendants of the daemon.
pid_t some_qemu(pid_t server) {
  for (auto pid : descendants_of(server)) {
    auto exe = fs::read_symlink("/proc/" + std::to_string(pid) + "/exe");
    if (exe.filename().string().starts_with("qemu-system")) {
      return pid;
    }
  }
  return -1;
}

} // namespace

BOOST_AUTO_TEST_CASE(a_killed_daemon_leaves_no_process_and_loses_nothing_acknowledged) {
  state_folder folder;
  std::string base;
  std::string kept;
  std::vector<std::string> running;
  std::vector<std::string> waiting;
  std::vector<pid_t> children;
  {
    node server{folder.path(), {"--vm.running_max=4"}};
    base = server.import_busybox();
    kept = result_image_of(server.shell(base, "echo precious > /root/f"));
    for (int i = 0; i < 4; ++i) {
      running.push_back(server.spawn(long_run(base)));
    }
    for (const auto& operation : running) {
      server.wait_for(operation, {"EXECUTING"});
    }
    for (int i = 0; i < 2; ++i) {
      waiting.push_back(server.spawn({{"command", "echo late"}, {"shell", true}, {"image", kept}}));
    }
    children = descendants_of(server.pid());
    BOOST_TEST(children.size() >= 8u);
    server.kill();
  }
  eventually("every child of the killed daemon is gone", [&] {
    for (auto pid : children) {
      if (::kill(pid, 0) == 0) {
        return false;
      }
    }
    return true;
  });
  node again{folder.path(), {"--vm.running_max=4", "--pool.ceiling=0"}};
  auto client = again.connect();
  for (const auto& operation : running) {
    auto now = client.get("/v1/operations/" + operation).json().as_object();
    BOOST_TEST(status_of(now) == "FAILED");
    BOOST_TEST(error_of(now).find("server stopped") != std::string::npos, error_of(now));
    BOOST_TEST(now.at("result_image_uuid").is_null());
  }
  for (const auto& operation : waiting) {
    auto done = again.wait(operation);
    BOOST_TEST(status_of(done) == "SUCCESS");
    BOOST_TEST(stdout_of(done) == "late\n");
    BOOST_TEST(result_image_of(done) == kept); // nothing was written: it is what it was
  }
  BOOST_TEST(client.get("/v1/inspect/" + kept + "/download?path=/root/f").body == "precious\n");
  BOOST_TEST(stdout_of(again.shell(kept, "cat /root/f")) == "precious\n");
  BOOST_TEST(overlays_in(folder.path()) == 0u);
  BOOST_TEST(again.stop() == 0);
  // base and kept: the other runs wrote nothing
  BOOST_TEST(files_in(folder.path() / "images") == 2u);
}

BOOST_AUTO_TEST_CASE(a_killed_qemu_fails_its_operation_alone) {
  state_folder folder;
  node server{folder.path(), {"--pool.ceiling=0"}};
  auto base = server.import_busybox();
  auto victim = server.spawn(long_run(base));
  server.wait_for(victim, {"EXECUTING"});
  auto qemu = some_qemu(server.pid());
  BOOST_REQUIRE(qemu > 0);
  ::kill(qemu, SIGKILL);
  auto done = server.wait(victim);
  BOOST_TEST(status_of(done) == "FAILED");
  BOOST_TEST(!error_of(done).empty());
  eventually("nothing of the VM is left", [&] {
    return descendants_of(server.pid()).empty() && overlays_in(folder.path()) == 0;
  });
  BOOST_TEST(stdout_of(server.shell(base, "echo next")) == "next\n");
}

BOOST_AUTO_TEST_CASE(a_guest_that_panics_fails_its_operation_with_its_last_words) {
  state_folder folder;
  node server{folder.path()};
  auto base = server.import_busybox();
  auto done = server.shell(base, "echo c > /proc/sysrq-trigger; sleep 1000");
  BOOST_TEST(status_of(done) == "FAILED");
  BOOST_TEST(error_of(done).find("panic") != std::string::npos, error_of(done));
  BOOST_TEST(stdout_of(server.shell(base, "echo next")) == "next\n");
}

BOOST_AUTO_TEST_CASE(a_second_daemon_on_the_same_folder_is_refused_by_name) {
  state_folder folder;
  node server{folder.path()};
  auto log = folder.path() / "second.log";
  auto status = std::system((program().string() + " serve --state_dir=" + folder.path().string() +
                             " --http.listen=127.0.0.1:0 > " + log.string() + " 2>&1")
                                .c_str());
  BOOST_TEST(status != 0);
  server.token("other"); // the first one is unharmed
  std::string said;
  {
    auto* in = std::fopen(log.c_str(), "r");
    char buffer[4096];
    said.assign(buffer, std::fread(buffer, 1, sizeof(buffer), in));
    std::fclose(in);
  }
  BOOST_TEST(said.find(std::to_string(server.pid())) != std::string::npos, said);
}

BOOST_AUTO_TEST_CASE(a_stop_in_order_ends_running_work_and_keeps_what_waits) {
  state_folder folder;
  std::string running;
  std::string waiting;
  {
    node server{folder.path(), {"--vm.running_max=1"}};
    auto base = server.import_busybox();
    running = server.spawn(long_run(base));
    server.wait_for(running, {"EXECUTING"});
    waiting = server.spawn({{"command", "echo after"}, {"shell", true}, {"image", base}});
    BOOST_TEST(server.stop() == 0);
  }
  node again{folder.path(), {"--vm.running_max=1"}};
  auto now = again.connect().get("/v1/operations/" + running).json().as_object();
  BOOST_TEST(status_of(now) == "FAILED");
  BOOST_TEST(stdout_of(again.wait(waiting)) == "after\n");
}
