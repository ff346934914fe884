#define BOOST_TEST_MODULE vmm_launcher
#include <boost/test/unit_test.hpp>

#include "tests/vmm/pipe_ends.hpp"
#include "vmm/child_process.hpp"
#include "vmm/launcher.hpp"
#include "vmm/launcher_wire.hpp"
#include "vmm/template.hpp"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <future>
#include <map>
#include <set>
#include <sstream>

// guard_host plays the daemon's program: the launcher and the jailed workers are started from it.

using namespace coppice::vmm;
namespace fs = std::filesystem;

namespace {

constexpr std::chrono::seconds patience{20};
constexpr uid_t uid_first = 1'800'000'000;
constexpr std::uint32_t uid_count = 3;
constexpr uid_t owner = 1'799'999'999;

launcher_config config() {
  launcher_config out;
  out.contents.programs[static_cast<std::size_t>(child_kind::import_worker)] = GUARD_HOST;
  out.contents.programs[static_cast<std::size_t>(child_kind::inspect_worker)] = GUARD_HOST;
  out.uid_first = uid_first;
  out.uid_count = uid_count;
  out.owner_uid = owner;
  out.owner_gid = owner;
  return out;
}

struct jails {
  jails() {
    auto started = launcher::start(config(), GUARD_HOST);
    BOOST_REQUIRE_MESSAGE(started.has_value(), (started ? "" : started.error().text));
    jailer = std::move(*started);
    loop.emplace(jailer);
    char name[] = "/tmp/coppice-jail-XXXXXX";
    BOOST_REQUIRE(::mkdtemp(name) != nullptr);
    folder = name;
    BOOST_REQUIRE(::chown(name, owner, owner) == 0);
  }
  ~jails() {
    loop.reset();
    jailer.reset();
    std::error_code ignored;
    fs::remove_all(folder, ignored);
  }

  child_options worker(child_kind kind, std::vector<std::string> arguments) const {
    child_options out;
    out.kind = kind;
    out.argv = {GUARD_HOST, std::string{to_string(kind)}};
    out.argv.insert(out.argv.end(), arguments.begin(), arguments.end());
    out.environment = {"SECRET=of the daemon"};
    if (kind == child_kind::import_worker) {
      out.folders = {{folder.string(), placement::scratch}};
      out.file_bytes = 1u << 20;
    }
    return out;
  }

  std::shared_ptr<child_process> start(child_options options, std::future<child_exit>& exit) {
    auto ended = std::make_shared<std::promise<child_exit>>();
    exit = ended->get_future();
    auto process = child_process::start(*loop, std::move(options),
                                        [ended](child_exit how) { ended->set_value(how); });
    BOOST_REQUIRE_MESSAGE(process.has_value(), (process ? "" : process.error().text));
    return *process;
  }

  child_exit run(child_options options) {
    std::future<child_exit> exit;
    auto process = start(std::move(options), exit);
    BOOST_REQUIRE(exit.wait_for(patience) == std::future_status::ready);
    return exit.get();
  }

  std::shared_ptr<launcher> jailer;
  std::optional<event_loop> loop;
  fs::path folder;
};

/// What `look` prints, by the word before the colon.
std::map<std::string, std::string> sights(const std::string& output) {
  std::map<std::string, std::string> out;
  std::istringstream lines{output};
  for (std::string line; std::getline(lines, line);) {
    const auto colon = line.find(':');
    if (colon != line.npos) {
      auto value = line.substr(colon + 1);
      value.erase(0, value.find_first_not_of(" \t"));
      out[line.substr(0, colon)] = value;
    }
  }
  return out;
}

std::string first_word(const std::string& text) {
  return text.substr(0, text.find_first_of(" \t"));
}

uid_t uid_of(pid_t pid) {
  struct stat info {};
  BOOST_REQUIRE(::stat(("/proc/" + std::to_string(pid) + "/environ").c_str(), &info) == 0);
  return info.st_uid;
}

std::string uid_line(pid_t pid) {
  std::ifstream in{"/proc/" + std::to_string(pid) + "/status"};
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("Uid:\t")) {
      return first_word(line.substr(5));
    }
  }
  return {};
}

std::string read_until(int fd, const std::string& until) {
  std::string out;
  while (until.empty() || out.find(until) == std::string::npos) {
    pollfd wait{fd, POLLIN, 0};
    BOOST_REQUIRE_MESSAGE(::poll(&wait, 1, 20'000) == 1, "nothing came after: " + out);
    char piece[4096];
    auto n = ::read(fd, piece, sizeof(piece));
    if (n <= 0) {
      break;
    }
    out.append(piece, static_cast<std::size_t>(n));
  }
  return out;
}

boost::test_tools::assertion_result is_root(boost::unit_test::test_unit_id) {
  boost::test_tools::assertion_result out{::geteuid() == 0};
  out.message() << "jails need root";
  return out;
}

} // namespace

BOOST_AUTO_TEST_SUITE(jailed, *boost::unit_test::precondition(is_root))

BOOST_FIXTURE_TEST_CASE(a_jailed_process_sees_its_program_and_nothing_of_the_host, jails) {
  ::setenv("COPPICE_TEST_SECRET", "1", 1);
  unique_fd leaking{::open("/dev/null", O_RDONLY)};
  pipe_ends data;
  auto options = worker(child_kind::inspect_worker, {"look"});
  options.descriptors = {{data.in.get(), 9}, {data.out.get(), 4}};
  auto how = run(options);
  BOOST_TEST_CONTEXT(how.output) {
    auto seen = sights(how.output);
    BOOST_TEST(how.code == 0);
    const auto uid = first_word(seen["Uid"]);
    BOOST_TEST(uid == first_word(seen["Gid"]));
    BOOST_TEST(std::stoul(uid) >= uid_first);
    BOOST_TEST(std::stoul(uid) < uid_first + uid_count);
    BOOST_TEST(seen["Groups"] == "");
    for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"}) {
      BOOST_TEST(seen[set] == "0000000000000000", set);
    }
    BOOST_TEST(seen["NoNewPrivs"] == "1");
    BOOST_TEST(seen["Seccomp"] == "2");
    BOOST_TEST(seen["root"] == "coppice dev empty lib lib64 proc run");
    BOOST_TEST(seen["dev"] == "null urandom");
    BOOST_TEST(seen["etc"] == "");
    BOOST_TEST(seen["proc"] == "1 2 self thread-self");
    BOOST_TEST(seen["network"] == "lo");
    BOOST_TEST(seen["host"] == "jail");
    BOOST_TEST(seen["environment"] == "LANG=C.UTF-8");
    BOOST_TEST(seen["limits"] == "0 0");
    BOOST_TEST(seen["namespace"] == "Operation not permitted");
    BOOST_TEST(seen["root user"] == "Operation not permitted");
    BOOST_TEST(seen["write to root"] == "Read-only file system");
    BOOST_TEST(seen["write to the program"] != "yes");
    BOOST_TEST(seen["see the host's first process"] == "No such process");
    BOOST_TEST(seen["read the guard"] == "Permission denied");
    BOOST_TEST(seen["descriptors"] == "0 1 2 4 9 ");
  }
}

BOOST_FIXTURE_TEST_CASE(what_a_worker_writes_belongs_to_the_daemon_whatever_its_own_uid, jails) {
  auto how = run(worker(child_kind::import_worker, {"write", (folder / "made").string()}));
  BOOST_TEST(how.code == 0, how.output);
  struct stat info {};
  BOOST_REQUIRE(::stat((folder / "made").c_str(), &info) == 0);
  BOOST_TEST(info.st_uid == owner);
  BOOST_TEST(info.st_gid == owner);
  // And it may read what the daemon has put there for it alone.
  BOOST_REQUIRE(::chmod((folder / "made").c_str(), 0600) == 0);
  how = run(worker(child_kind::import_worker, {"read", (folder / "made").string()}));
  BOOST_TEST(how.code == 0);
  BOOST_TEST(how.output == "written");
}

BOOST_AUTO_TEST_CASE(a_template_is_made_of_guest_files_that_only_root_may_read) {
  char name[] = "/tmp/coppice-guest-XXXXXX";
  BOOST_REQUIRE(::mkdtemp(name) != nullptr); // of mode 0700
  const fs::path folder = name;
  machine_options options;
  options.qemu = "/bin/true";
  options.kernel = folder / "kernel";
  options.initramfs = folder / "initramfs";
  std::ofstream{options.kernel} << "a kernel";
  std::ofstream{options.initramfs} << "an agent";
  BOOST_REQUIRE(::chmod(options.kernel.c_str(), 0600) == 0);
  auto how = config();
  how.contents.guest_files = {options.kernel.string(), options.initramfs.string()};
  auto started = launcher::start(how, GUARD_HOST);
  BOOST_REQUIRE_MESSAGE(started.has_value(), (started ? "" : started.error().text));
  auto before = collect_ingredients(options);
  BOOST_REQUIRE(before.has_value());
  // Another file by that name is not what QEMU gets in its jail.
  std::ofstream{folder / "new"} << "another kernel";
  fs::rename(folder / "new", options.kernel);

  const auto child = ::fork();
  if (child == 0) {
    if (::setresgid(owner, owner, owner) != 0 || ::setresuid(owner, owner, owner) != 0) {
      ::_exit(10);
    }
    if (collect_ingredients(options)) {
      ::_exit(11); // it may read them all the same: the test shows nothing
    }
    for (int i = 0; i < 2; ++i) { // a second time: nobody has moved the descriptors' offset
      auto held = collect_ingredients(options, started->get());
      if (!held) {
        ::_exit(12);
      }
      if (held->kernel != before->kernel || held->initramfs != before->initramfs) {
        ::_exit(13);
      }
      if (!check_unchanged(*held, options, started->get())) {
        ::_exit(14);
      }
    }
    ::_exit(0);
  }
  int status = -1;
  BOOST_REQUIRE(::waitpid(child, &status, 0) == child);
  BOOST_TEST(WIFEXITED(status));
  BOOST_TEST(WEXITSTATUS(status) == 0);
  started->reset();
  fs::remove_all(folder);
}

BOOST_FIXTURE_TEST_CASE(a_layout_can_be_read_and_not_changed, jails) {
  fs::create_directories(folder / "scratch");
  fs::create_directories(folder / "given");
  std::ofstream{folder / "given" / "file"} << "as it was";
  BOOST_REQUIRE(::chown((folder / "scratch").c_str(), owner, owner) == 0);
  auto options = worker(child_kind::import_worker, {"read", (folder / "given" / "file").string()});
  options.folders = {{(folder / "scratch").string(), placement::scratch},
                     {(folder / "given").string(), placement::layout}};
  BOOST_TEST(run(options).output == "as it was");
  BOOST_REQUIRE(::chown((folder / "given").c_str(), owner, owner) == 0);
  options.argv[2] = "write";
  BOOST_TEST(run(options).code == 1);
  options.argv = {GUARD_HOST, "import-worker", "look"};
  auto seen = sights(run(options).output);
  BOOST_TEST(seen["root"] == "coppice dev empty layout lib lib64 proc run scratch");
  BOOST_TEST(seen["layout"] == "file");
}

BOOST_FIXTURE_TEST_CASE(a_file_larger_than_its_limit_cannot_be_written, jails) {
  auto options = worker(child_kind::import_worker, {"write", (folder / "made").string()});
  options.file_bytes = 3;
  auto how = run(options);
  BOOST_TEST((how.signal == SIGXFSZ || how.code == 1));
}

BOOST_FIXTURE_TEST_CASE(live_jails_have_different_uids_and_give_them_back, jails) {
  pipe_ends data;
  std::vector<std::shared_ptr<child_process>> running;
  std::vector<std::future<child_exit>> exits(uid_count);
  std::set<std::string> uids;
  auto options = worker(child_kind::inspect_worker, {"stray"});
  options.descriptors = {{data.in.get(), STDOUT_FILENO}};
  for (auto& exit : exits) {
    running.push_back(start(options, exit));
    read_until(data.out.get(), "started\n");
    uids.insert(uid_line(running.back()->pid()));
    BOOST_TEST(uid_of(running.back()->pid()) == 0u); // not dumpable: its /proc is root's
  }
  BOOST_TEST(uids.size() == uid_count);
  auto refused = child_process::start(*loop, options, [](const child_exit&) {});
  BOOST_REQUIRE(!refused);
  BOOST_TEST(refused.error().text.find("jail.uid_count") != std::string::npos);
  running.front()->kill();
  BOOST_REQUIRE(exits.front().wait_for(patience) == std::future_status::ready);
  BOOST_TEST(exits.front().get().signal == SIGKILL);
  BOOST_TEST(run(worker(child_kind::inspect_worker, {"look"})).code == 0);
}

BOOST_FIXTURE_TEST_CASE(kill_ends_also_what_has_left_the_session, jails) {
  pipe_ends data;
  std::future<child_exit> exit;
  auto options = worker(child_kind::inspect_worker, {"stray"});
  options.descriptors = {{data.in.get(), STDOUT_FILENO}};
  auto process = start(options, exit);
  data.in.reset();
  read_until(data.out.get(), "started\n");
  process->kill();
  BOOST_REQUIRE(exit.wait_for(patience) == std::future_status::ready);
  BOOST_TEST(read_until(data.out.get(), "") == "");
}

BOOST_FIXTURE_TEST_CASE(a_program_that_was_not_there_is_refused_by_name, jails) {
  child_options options;
  options.kind = child_kind::skopeo;
  options.argv = {"skopeo"};
  auto refused = child_process::start(*loop, options, [](const child_exit&) {});
  BOOST_REQUIRE(!refused);
  BOOST_TEST(refused.error().text.find("skopeo") != std::string::npos);
}

BOOST_FIXTURE_TEST_CASE(a_path_that_leads_to_another_folder_by_now_is_not_mounted, jails) {
  // Where the host has /sys, the launcher has what it makes jails from.
  unique_fd given{::open("/sys", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  int ends[2];
  BOOST_REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
  unique_fd lifeline{ends[0]};
  unique_fd there{ends[1]};
  pipe_ends said;
  launch_request request;
  request.kind = child_kind::import_worker;
  request.arguments = {"look"};
  request.placements = {placement::lifeline, placement::scratch, STDERR_FILENO};
  auto started = jailer->launch(request, {there.get(), given.get(), said.in.get()});
  BOOST_REQUIRE(started.has_value());
  said.in.reset();
  there.reset();
  const auto text = read_until(said.out.get(), "");
  BOOST_TEST(text == "jail: the folder /sys is another one now\n", text);
}

BOOST_FIXTURE_TEST_CASE(what_is_no_request_is_refused_and_the_launcher_goes_on, jails) {
  // What a daemon that was taken over could send, through a launcher of our own.
  int ends[2];
  BOOST_REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
  unique_fd ours{ends[0]};
  std::vector<std::string> words{GUARD_HOST, launcher_command};
  for (const auto& argument : to_arguments(config())) {
    words.push_back(argument);
  }
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::dup2(ends[1], launcher_socket_number);
    std::vector<char*> argv;
    for (auto& w : words) {
      argv.push_back(w.data());
    }
    argv.push_back(nullptr);
    ::execv(GUARD_HOST, argv.data());
    ::_exit(127);
  }
  ::close(ends[1]);
  auto answer = [&] {
    received message;
    BOOST_REQUIRE((receive(ours.get(), 4096, message) == receipt::message));
    BOOST_REQUIRE(message.bytes.size() == sizeof(launch_answer));
    launch_answer out{};
    std::memcpy(&out, message.bytes.data(), sizeof(out));
    return out;
  };
  BOOST_TEST(answer().pid > 0); // the greeting
  const std::vector<std::byte> garbage(100, std::byte{0x41});
  const std::vector<std::byte> long_garbage(launch_limits::request_bytes_max + 1, std::byte{0});
  const int many[] = {0, 1, 2};
  for (const auto& bytes : {garbage, long_garbage}) {
    BOOST_REQUIRE(send_packet(ours.get(), bytes, many));
    const auto said = answer();
    BOOST_TEST(said.pid == -1);
    BOOST_TEST(std::string{said.text}.find("refused") != std::string::npos);
  }
  // None of the descriptors stayed there: its own four and the signals'.
  std::size_t open = 0;
  for ([[maybe_unused]] const auto& entry :
       fs::directory_iterator{"/proc/" + std::to_string(pid) + "/fd"}) {
    ++open;
  }
  BOOST_TEST(open <= 8u);
  ours.reset(); // the daemon is gone, and so is the launcher
  int status = -1;
  BOOST_TEST(::waitpid(pid, &status, 0) == pid);
  BOOST_TEST(status == 0);
}

BOOST_AUTO_TEST_CASE(nothing_outlives_a_daemon_killed_with_9_nor_ends_with_the_thread_that_asked) {
  pipe_ends output;
  pipe_ends errors;
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, output.in.get(), 1);
  posix_spawn_file_actions_adddup2(&actions, errors.in.get(), 2);
  char name[] = GUARD_HOST;
  char what[] = "run-jailed";
  char* argv[] = {name, what, nullptr};
  pid_t pid = -1;
  BOOST_REQUIRE(::posix_spawn(&pid, GUARD_HOST, &actions, nullptr, argv, environ) == 0);
  posix_spawn_file_actions_destroy(&actions);
  output.in.reset();
  errors.in.reset();
  read_until(errors.out.get(), "asked\n"); // the thread has ended
  read_until(output.out.get(), "started\n");
  pollfd wait{output.out.get(), POLLIN, 0};
  BOOST_TEST(::poll(&wait, 1, 0) == 0); // and its child lives
  BOOST_REQUIRE(::kill(pid, SIGKILL) == 0);
  // Child, stray and guard held the one, the launcher the other.
  BOOST_TEST(read_until(output.out.get(), "") == "");
  BOOST_TEST(read_until(errors.out.get(), "") == "");
  ::waitpid(pid, nullptr, 0);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_CASE(a_range_of_uids_that_is_empty_is_refused) {
  auto none = config();
  none.uid_count = 0;
  auto started = launcher::start(none, GUARD_HOST);
  BOOST_REQUIRE(!started);
  BOOST_TEST(!started.error().text.empty());
}
