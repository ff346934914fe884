#include "tests/integration/node.hpp"

#include <boost/beast/core/detail/base64.hpp>
#include <boost/json/serialize.hpp>
#include <boost/test/results_collector.hpp>
#include <boost/test/unit_test.hpp>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <exception>
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>
#include <thread>
#include <unordered_map>
#include <unordered_set>

namespace coppice::test {

namespace {

namespace fs = std::filesystem;
using clock = std::chrono::steady_clock;

std::string read_file(const fs::path& file) {
  std::ifstream in{file, std::ios::binary};
  return {std::istreambuf_iterator<char>{in}, {}};
}

/// How often a state that has no event of its own is looked at.
constexpr std::chrono::milliseconds look_interval{20};

/// Of a failed test's daemon.
constexpr std::size_t told_lines_max = 200;

std::string decoded(const boost::json::object& operation, const char* stream) {
  const auto* result = operation.at("metadata").at("result").if_object();
  BOOST_REQUIRE_MESSAGE(result, "no output in " << boost::json::serialize(operation));
  const auto& s = result->at(stream).as_object();
  std::string value{s.at("value").as_string()};
  if (s.at("encoding").as_string() == "ascii") {
    return value;
  }
  namespace base64 = boost::beast::detail::base64;
  std::string out(base64::decoded_size(value.size()), '\0');
  out.resize(base64::decode(out.data(), value.data(), value.size()).first);
  return out;
}

} // namespace

fs::path program() {
  return COPPICE_PROGRAM;
}

fs::path source_dir() {
  return COPPICE_SOURCE_DIR;
}

std::chrono::seconds patience() {
  // Measured on this machine just before these tests; twenty of them, and never less than a minute.
  static const auto boot = [] {
    std::ifstream in{COPPICE_BOOT_FILE};
    long ms = 0;
    BOOST_REQUIRE_MESSAGE(in >> ms, "no measured boot in " COPPICE_BOOT_FILE
                                    ": run the test measure_boot first (ctest does)");
    return std::chrono::milliseconds{ms};
  }();
  return std::max(std::chrono::seconds{60},
                  std::chrono::duration_cast<std::chrono::seconds>(20 * boot));
}

/// Not in it: a test may leave no room there.
static fs::path log_beside(const fs::path& state) {
  return state.string() + ".log";
}

state_folder::state_folder() {
  auto name = (fs::temp_directory_path() / "coppice-state-XXXXXX").string();
  BOOST_REQUIRE(::mkdtemp(name.data()) != nullptr);
  path_ = name;
  // The daemon's user must be able to pass where a test uses folders below this one.
  fs::permissions(path_, fs::perms{0711});
}

state_folder::~state_folder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
  fs::remove(log_beside(path_), ignored);
}

std::size_t overlays_in(const std::filesystem::path& state) {
  std::size_t n = 0;
  for (const auto& entry : std::filesystem::directory_iterator{state / "images"}) {
    n += entry.path().filename().string().find(".overlay") != std::string::npos ? 1u : 0u;
  }
  return n;
}

void eventually(const std::string& what, const std::function<bool()>& claim) {
  auto deadline = clock::now() + patience();
  while (!claim()) {
    BOOST_REQUIRE_MESSAGE(clock::now() < deadline,
                          "not within " << patience().count() << " s: " << what);
    std::this_thread::sleep_for(look_interval);
  }
}

node::node(const fs::path& state, std::vector<std::string> arguments,
           std::vector<std::string> before)
    : state_{state}, log_file_{log_beside(state)} {
  auto argv = std::move(before);
  argv.insert(argv.end(), {program().string(), "serve", "--state_dir=" + state.string(),
                           "--http.listen=127.0.0.1:0"});
  argv.insert(argv.end(), std::make_move_iterator(arguments.begin()),
              std::make_move_iterator(arguments.end()));
  std::vector<char*> pointers;
  for (auto& a : argv) {
    pointers.push_back(a.data());
  }
  pointers.push_back(nullptr);
  std::error_code ignored;
  fs::remove(log_file_, ignored);
  pid_ = ::fork();
  BOOST_REQUIRE(pid_ >= 0);
  if (pid_ == 0) {
    auto log = ::open(log_file_.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    auto null = ::open("/dev/null", O_RDONLY);
    ::dup2(null, 0);
    ::dup2(log, 1);
    ::dup2(log, 2);
    ::execvp(pointers[0], pointers.data());
    ::_exit(127);
  }
  eventually("the daemon is ready; its log: " + log_file_.string(), [this] {
    int status = 0;
    BOOST_REQUIRE_MESSAGE(::waitpid(pid_, &status, WNOHANG) == 0, "the daemon ended at its start:\n"
                                                                      << log());
    auto text = log();
    auto at = text.find("msg=ready url=http://127.0.0.1:");
    if (at == text.npos || text.find('\n', at) == text.npos) {
      return false;
    }
    port_ = static_cast<std::uint16_t>(
        std::atoi(text.c_str() + text.find("127.0.0.1:", at) + std::string{"127.0.0.1:"}.size()));
    return true;
  });
  token_ = token();
}

/// Of the test case that runs now.
static bool has_failed() {
  using namespace boost::unit_test;
  return std::uncaught_exceptions() > 0 ||
         !results_collector.results(framework::current_test_case_id()).passed();
}

/// For whoever reads why a test failed: the folder and the log go with the test.
void node::tell_last_words() const {
  std::deque<std::string> last;
  std::istringstream lines{log()};
  for (std::string line; std::getline(lines, line);) {
    // Waits are made of these.
    if (line.find("msg=request") == line.npos || line.find("method=GET") == line.npos) {
      last.push_back(line);
    }
    if (last.size() > told_lines_max) {
      last.pop_front();
    }
  }
  std::cerr << "-- the end of the daemon's log:\n";
  for (const auto& line : last) {
    std::cerr << line << '\n';
  }
  std::cerr << "-- its processes:\n";
  if (pid_ > 0) {
    for (auto pid : descendants_of(pid_)) {
      std::cerr << read_file("/proc/" + std::to_string(pid) + "/stat");
    }
  }
  std::cerr << "--\n";
}

node::~node() {
  if (has_failed()) {
    tell_last_words();
  }
  if (pid_ > 0) {
    kill();
  }
}

void node::kill() {
  ::kill(pid_, SIGKILL);
  int status = 0;
  ::waitpid(pid_, &status, 0);
  pid_ = -1;
}

int node::stop() {
  ::kill(pid_, SIGTERM);
  return wait_for_end();
}

int node::wait_for_end() {
  // the C library declares its wrapper without C linkage
  auto fd = static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0));
  pollfd p{fd, POLLIN, 0};
  auto limit = static_cast<int>(std::chrono::milliseconds{patience()}.count());
  BOOST_REQUIRE_MESSAGE(::poll(&p, 1, limit) == 1, "the daemon does not stop:\n" << log());
  ::close(fd);
  int status = 0;
  ::waitpid(pid_, &status, 0);
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

std::string node::log() const {
  return read_file(log_file_);
}

http_client node::connect() const {
  return http_client{port_, token_};
}

std::string node::command(const std::string& arguments) const {
  auto line = program().string() + " " + arguments + " --state-dir=" + state_.string() + " 2>&1";
  auto* pipe = ::popen(line.c_str(), "r");
  BOOST_REQUIRE(pipe);
  std::string out;
  std::array<char, 4096> buffer{};
  for (std::size_t n = 0; (n = std::fread(buffer.data(), 1, buffer.size(), pipe)) > 0;) {
    out.append(buffer.data(), n);
  }
  auto status = ::pclose(pipe);
  BOOST_REQUIRE_MESSAGE(status == 0, line << " failed:\n" << out);
  return out;
}

std::string node::token(const std::string& project) const {
  auto text = command("token create --project " + project);
  while (!text.empty() && text.back() == '\n') {
    text.pop_back();
  }
  return text.substr(text.rfind('\n') + 1);
}

std::string node::import_busybox() const {
  auto layout = state_ / "test-layout";
  std::error_code ignored;
  fs::remove_all(layout, ignored);
  auto script = source_dir() / "configs" / "base-image" / "build.sh";
  BOOST_REQUIRE(std::system((script.string() + " " + layout.string() + " >/dev/null").c_str()) ==
                0);
  command("import oci:" + layout.string() + " --tag busybox:latest");
  auto found = connect().get("/v1/inspect/?tag=busybox:latest");
  BOOST_REQUIRE(found.status == 302u);
  auto location = found.header("Location");
  return location.substr(0, location.find('/'));
}

std::string node::spawn(const boost::json::object& request) const {
  auto answer = connect().post("/v1/instances", boost::json::value(request));
  BOOST_REQUIRE_MESSAGE(answer.status == 201,
                        "spawn answered " << answer.status << ": " << answer.body);
  return std::string{answer.json().at("uuid").as_string()};
}

boost::json::object node::wait_for(const std::string& operation,
                                   const std::vector<std::string>& states) const {
  auto client = connect();
  boost::json::object last;
  eventually("operation " + operation + " gets to " + states.front() +
                 "; log: " + log_file_.string(),
             [&] {
               auto answer = client.get("/v1/operations/" + operation);
               BOOST_REQUIRE(answer.status == 200u);
               last = answer.json().as_object();
               auto status = status_of(last);
               return std::find(states.begin(), states.end(), status) != states.end();
             });
  return last;
}

boost::json::object node::wait(const std::string& operation) const {
  return wait_for(operation, {"SUCCESS", "FAILED", "CANCELLED"});
}

boost::json::object node::run(const boost::json::object& request) const {
  return wait(spawn(request));
}

boost::json::object node::shell(const std::string& image, const std::string& script) const {
  return run({{"command", script}, {"shell", true}, {"image", image}});
}

std::string stdout_of(const boost::json::object& operation) {
  return decoded(operation, "stdout");
}

std::string stderr_of(const boost::json::object& operation) {
  return decoded(operation, "stderr");
}

std::int64_t exit_code_of(const boost::json::object& operation) {
  return operation.at("metadata")
      .at("result")
      .at("state")
      .at("exit_code")
      .to_number<std::int64_t>();
}

std::string result_image_of(const boost::json::object& operation) {
  const auto& id = operation.at("result_image_uuid");
  return id.is_string() ? std::string{id.as_string()} : std::string{};
}

std::string status_of(const boost::json::object& operation) {
  return std::string{operation.at("status").as_string()};
}

std::string error_of(const boost::json::object& operation) {
  const auto& e = operation.at("error");
  return e.is_string() ? std::string{e.as_string()} : std::string{};
}

std::vector<pid_t> descendants_of(pid_t pid) {
  std::unordered_multimap<pid_t, pid_t> children;
  std::unordered_set<pid_t> launchers;
  for (const auto& entry : fs::directory_iterator{"/proc"}) {
    auto name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != name.npos) {
      continue;
    }
    auto stat = read_file(entry.path() / "stat");
    auto end = stat.rfind(')');
    if (end == stat.npos) {
      continue;
    }
    std::istringstream rest{stat.substr(end + 1)};
    std::string state;
    pid_t parent = 0;
    rest >> state >> parent;
    auto child = static_cast<pid_t>(std::stol(name));
    if (state != "Z") {
      children.emplace(parent, child);
    }
    if (stat.find("(coppice-launch)") != stat.npos) {
      launchers.insert(child);
    }
  }
  std::vector<pid_t> out;
  std::vector<pid_t> open{pid};
  while (!open.empty()) {
    auto [first, last] = children.equal_range(open.back());
    open.pop_back();
    for (auto it = first; it != last; ++it) {
      if (!launchers.contains(it->second)) {
        out.push_back(it->second);
      }
      open.push_back(it->second);
    }
  }
  return out;
}

std::vector<pid_t> processes_with(const std::string& text) {
  std::vector<pid_t> out;
  for (const auto& entry : fs::directory_iterator{"/proc"}) {
    auto name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") == name.npos &&
        read_file(entry.path() / "cmdline").find(text) != std::string::npos) {
      out.push_back(static_cast<pid_t>(std::stol(name)));
    }
  }
  return out;
}

} // namespace coppice::test
