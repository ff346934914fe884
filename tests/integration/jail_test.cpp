#define BOOST_TEST_MODULE jail
#include "tests/integration/node.hpp"
#include "tests/integration/processes.hpp"

#include <boost/test/unit_test.hpp>

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

// Looks at the processes of a real daemon from outside, as root.

using namespace coppice::test;
namespace fs = std::filesystem;

namespace {

constexpr unsigned long range_first = 1'900'000'000; // the default of jail.uid_first
constexpr unsigned long range_count = 4096;

boost::test_tools::assertion_result is_root(boost::unit_test::test_unit_id) {
  boost::test_tools::assertion_result out{::geteuid() == 0};
  out.message() << "jails need root";
  return out;
}

boost::json::object long_run(const std::string& image) {
  return {{"command", "echo begun; sleep 1000"}, {"shell", true}, {"image", image}};
}

struct running_node {
  running_node() : server{folder.path(), {"--vm.running_max=2", "--pool.templates=false"}} {
    base = server.import_busybox();
    for (int i = 0; i < 2; ++i) {
      operations.push_back(server.spawn(long_run(base)));
    }
    for (const auto& operation : operations) {
      server.wait_for(operation, {"EXECUTING"});
    }
    qemus = qemus_of(server.pid());
    BOOST_REQUIRE(qemus.size() == 2u);
  }

  state_folder folder;
  node server;
  std::string base;
  std::vector<std::string> operations;
  std::map<pid_t, pid_t> qemus;
};

enum class origin { booted, restored };

constexpr const char* memory_file = "/memfd:coppice-ram";

/// What QEMU may have open: what we gave it, and what it makes itself that leads nowhere. Restored
/// ones have their template's memory, as we gave it and as they opened it; its state is read to
/// the end and closed.
void check_descriptors(pid_t qemu, origin from) {
  std::map<int, std::string> given{{0, "/dev/null"}, {1, "pipe:"},   {2, "pipe:"},   {3, "socket:"},
                                   {4, "socket:"},   {5, "socket:"}, {20, "socket:"}};
  if (from == origin::restored) {
    given.emplace(6, memory_file);
  }
  const std::set<std::string> own{"anon_inode:[eventfd]", "anon_inode:[eventpoll]",
                                  "anon_inode:[signalfd]"};
  const auto open = descriptors_of(qemu);
  std::size_t of_memory = 0;
  for (const auto& [number, target] : open) {
    if (target.starts_with(memory_file)) {
      ++of_memory;
    } else if (auto at = given.find(number); at != given.end()) {
      BOOST_TEST(target.starts_with(at->second), number << " is " << target);
    } else {
      BOOST_TEST(own.contains(target), number << " is " << target);
    }
  }
  for (const auto& [number, ignored] : given) {
    BOOST_TEST(open.contains(number), number << " is not open");
  }
  BOOST_TEST(of_memory == (from == origin::restored ? 2u : 0u));
}

/// Nobody may write into what all siblings share, not even through a descriptor of its own.
void check_memory_is_sealed(pid_t qemu) {
  const int file = ::open((proc(qemu) / "fd" / "6").c_str(), O_RDONLY | O_CLOEXEC);
  BOOST_REQUIRE(file >= 0);
  BOOST_TEST(::fcntl(file, F_GET_SEALS) ==
             (F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL));
  ::close(file);
}

void check_namespaces(pid_t pid, const std::vector<std::string>& kinds) {
  for (const auto& kind : kinds) {
    BOOST_TEST(fs::read_symlink(proc(pid) / "ns" / kind).string() !=
                   fs::read_symlink("/proc/self/ns/" + kind).string(),
               kind << " is the host's");
  }
}

void check_qemu(pid_t qemu, origin from) {
  BOOST_TEST_CONTEXT(text_of(proc(qemu) / "status")) {
    const auto uid = uid_of(qemu);
    BOOST_TEST(uid > range_first);
    BOOST_TEST(uid < range_first + range_count);
    BOOST_TEST(status_of_process(qemu, "Groups") == "");
    BOOST_TEST(status_of_process(qemu, "NoNewPrivs") == "1");
    BOOST_TEST(status_of_process(qemu, "Seccomp") == "2");
    // The right to change its root, in a user namespace that owns nothing.
    BOOST_TEST(status_of_process(qemu, "CapEff") == "0000000000040000");
    BOOST_TEST(status_of_process(qemu, "CapBnd") == "0000000000040000");
  }
  check_namespaces(qemu, {"mnt", "pid", "net", "ipc", "uts", "user"});
  check_descriptors(qemu, from);
  BOOST_TEST(text_of(proc(qemu) / "environ") == std::string("LC_ALL=C\0", 9));
  BOOST_TEST(entries_of(proc(qemu) / "root").empty());
  // Two lines of titles, then the loopback device.
  std::istringstream devices{text_of(proc(qemu) / "net" / "dev")};
  std::string line;
  std::getline(devices, line);
  std::getline(devices, line);
  while (std::getline(devices, line)) {
    BOOST_TEST(line.find("lo:") != line.npos, line);
  }
  const auto limits = text_of(proc(qemu) / "limits");
  BOOST_TEST(limits.find("Max core file size        0                    0") != limits.npos);
  BOOST_TEST(limits.find("Max file size             0                    0") != limits.npos);
}

} // namespace

BOOST_AUTO_TEST_SUITE(jailed, *boost::unit_test::precondition(is_root))

BOOST_FIXTURE_TEST_CASE(a_qemu_has_nothing_of_the_host, running_node) {
  std::set<unsigned long> uids{uid_of(server.pid())};
  for (const auto& [qemu, guard] : qemus) {
    BOOST_TEST(uids.insert(uid_of(qemu)).second, "two processes share the uid " << uid_of(qemu));
    check_qemu(qemu, origin::booted);
  }
}

BOOST_AUTO_TEST_CASE(a_qemu_that_was_restored_has_its_templates_memory_and_nothing_else) {
  state_folder folder;
  node server{folder.path(), {"--pool.ceiling=0"}};
  auto base = server.import_busybox();
  server.shell(base, "true"); // asks for the template
  eventually("there is a template",
             [&] { return count_of(server.log(), "\"template made\"") == 1; });
  server.wait_for(server.spawn(long_run(base)), {"EXECUTING"});
  auto qemus = qemus_of(server.pid());
  BOOST_REQUIRE(qemus.size() == 1u);
  const auto qemu = qemus.begin()->first;
  BOOST_TEST(is_restored(qemu));
  check_qemu(qemu, origin::restored);
  check_memory_is_sealed(qemu);
}

BOOST_AUTO_TEST_CASE(a_qemu_of_the_pool_has_no_more_while_it_waits_nor_while_it_runs) {
  state_folder folder;
  node server{folder.path(), {"--pool.floor=1", "--pool.ceiling=1", "--log.level=debug"}};
  auto base = server.import_busybox();
  eventually("a VM waits", [&] { return count_of(server.log(), "\"a vm waits\"") == 1; });
  auto waiting = qemus_of(server.pid());
  BOOST_REQUIRE(waiting.size() == 1u);
  const auto qemu = waiting.begin()->first;
  check_qemu(qemu, origin::restored);
  check_memory_is_sealed(qemu);
  const auto operation = server.spawn(long_run(base));
  server.wait_for(operation, {"EXECUTING"});
  BOOST_REQUIRE(qemus_of(server.pid()).contains(qemu)); // it was taken
  check_qemu(qemu, origin::restored);
  BOOST_TEST(server.connect().request("DELETE", "/v1/operations/" + operation).status == 202u);
  eventually("it was used once", [&] { return !is_alive(qemu); });
}

BOOST_FIXTURE_TEST_CASE(the_root_of_a_jail_holds_its_program_and_no_host_file_else, running_node) {
  for (const auto& [qemu, guard] : qemus) {
    const auto root = proc(guard) / "root";
    BOOST_TEST((entries_of(root) == std::vector<std::string>{"dev", "empty", "guest", "lib",
                                                             "lib64", "proc", "run", "usr"}));
    BOOST_TEST((entries_of(root / "dev") == std::vector<std::string>{"kvm", "null", "urandom"}));
    struct stat kvm {};
    BOOST_REQUIRE(::stat((root / "dev" / "kvm").c_str(), &kvm) == 0);
    BOOST_TEST(S_ISREG(kvm.st_mode)); // under TCG it is but a place
    BOOST_TEST((entries_of(root / "usr" / "bin") ==
                std::vector<std::string>{fs::read_symlink(proc(qemu) / "exe").filename()}));
    BOOST_TEST(entries_of(root / "empty").empty());
    BOOST_TEST(!fs::exists(root / "etc"));
    // Its own processes, and nothing of the kernel's.
    BOOST_TEST(
        (entries_of(root / "proc") == std::vector<std::string>{"1", "2", "self", "thread-self"}));
    std::ofstream refused{root / "file"};
    BOOST_TEST(!refused.is_open());
  }
}

BOOST_FIXTURE_TEST_CASE(the_daemon_is_no_root_and_the_launcher_holds_nothing_of_it, running_node) {
  BOOST_TEST(uid_of(server.pid()) != 0u);
  for (const char* set : {"CapPrm", "CapEff", "CapInh", "CapAmb"}) {
    BOOST_TEST(status_of_process(server.pid(), set) == "0000000000000000");
  }
  BOOST_TEST(status_of_process(server.pid(), "Groups") == "");
  struct stat state {};
  BOOST_REQUIRE(::stat(folder.path().c_str(), &state) == 0);
  BOOST_TEST(state.st_uid == uid_of(server.pid()));
  for (const auto& entry : fs::recursive_directory_iterator{folder.path() / "images"}) {
    BOOST_REQUIRE(::stat(entry.path().c_str(), &state) == 0);
    BOOST_TEST(state.st_uid == uid_of(server.pid()), entry.path());
  }
  const auto guard = qemus.begin()->second;
  const auto launcher = static_cast<pid_t>(std::stol(status_of_process(guard, "PPid")));
  BOOST_TEST(text_of(proc(launcher) / "comm") == "coppice-launch\n");
  BOOST_TEST(uid_of(launcher) == 0u);
  BOOST_TEST(text_of(proc(launcher) / "environ") == "");
  // Standard streams, the daemon's socket, the signals.
  BOOST_TEST(
      (entries_of(proc(launcher) / "fd") == std::vector<std::string>{"0", "1", "2", "3", "4"}));
}

BOOST_FIXTURE_TEST_CASE(everything_is_gone_a_second_after_the_daemon_was_killed, running_node) {
  auto processes = descendants_of(server.pid());
  const auto guard = qemus.begin()->second;
  processes.push_back(static_cast<pid_t>(std::stol(status_of_process(guard, "PPid"))));
  BOOST_TEST(processes.size() >= 5u);
  const auto begin = std::chrono::steady_clock::now();
  server.kill();
  eventually("all is gone", [&] {
    return std::none_of(processes.begin(), processes.end(),
                        [](pid_t pid) { return ::kill(pid, 0) == 0; });
  });
  const auto took = std::chrono::steady_clock::now() - begin;
  BOOST_TEST_MESSAGE("gone after "
                     << std::chrono::duration_cast<std::chrono::milliseconds>(took).count()
                     << " ms");
}

BOOST_FIXTURE_TEST_CASE(without_its_launcher_the_daemon_stops_in_order, running_node) {
  const auto guard = qemus.begin()->second;
  const auto launcher = static_cast<pid_t>(std::stol(status_of_process(guard, "PPid")));
  BOOST_REQUIRE(::kill(launcher, SIGKILL) == 0);
  eventually("the daemon has said why it stops",
             [&] { return server.log().find("the launcher has ended") != std::string::npos; });
  eventually("the VMs are gone", [&] {
    return std::none_of(qemus.begin(), qemus.end(),
                        [](const auto& entry) { return ::kill(entry.first, 0) == 0; });
  });
}

BOOST_AUTO_TEST_CASE(a_state_folder_that_root_made_is_handed_over) {
  state_folder folder;
  std::string base;
  std::string kept;
  {
    node server{folder.path(), {"--daemon.user=root"}};
    base = server.import_busybox();
    kept = result_image_of(server.shell(base, "echo precious > /root/f"));
    BOOST_TEST(uid_of(server.pid()) == 0u);
    BOOST_TEST(server.stop() == 0);
  }
  const auto outside = folder.path() / "outside";
  fs::create_directories(outside);
  std::ofstream{outside / "file"} << "of root";
  fs::create_hard_link(outside / "file", folder.path() / "tmp" / "planted");
  node server{folder.path()};
  BOOST_TEST(uid_of(server.pid()) != 0u);
  BOOST_TEST(stdout_of(server.shell(kept, "cat /root/f")) == "precious\n");
  struct stat info {};
  BOOST_REQUIRE(::stat((outside / "file").c_str(), &info) == 0);
  BOOST_TEST(info.st_uid == 0u); // it had two names
  BOOST_TEST(server.stop() == 0);
}

BOOST_AUTO_TEST_CASE(without_the_capabilities_work_goes_on_and_it_is_told_once_what_is_missing) {
  state_folder folder;
  node server{folder.path(), {}, {"setpriv", "--bounding-set", "-sys_admin"}};
  const auto base = server.import_busybox();
  BOOST_TEST(stdout_of(server.shell(base, "echo works")) == "works\n");
  const auto log = server.log();
  const std::string told = "child processes are not jailed";
  const auto at = log.find(told);
  BOOST_TEST_REQUIRE(at != log.npos, log);
  BOOST_TEST(log.find(told, at + 1) == log.npos);
  BOOST_TEST(log.find("making a mount namespace: Operation not permitted", at) != log.npos, log);
  BOOST_TEST(server.stop() == 0);
}

BOOST_AUTO_TEST_SUITE_END()
