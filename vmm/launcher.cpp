#include "vmm/launcher.hpp"

#include "vmm/launcher_wire.hpp"

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <string_view>

namespace coppice::vmm {

namespace {

// Building the roots asks the loader about a few programs; a request takes about a millisecond.
constexpr time_t answer_seconds = 30;
constexpr int end_ms = 5000;

constexpr std::string_view program_prefix = "program.";
constexpr std::string_view guest_prefix = "guest=";
constexpr std::string_view without_cgroups_prefix = "without-cgroups=";
constexpr std::string_view user_namespaces_word = "user-namespaces";

failure cannot(const std::string& what) {
  return fail(ec::spawn, what + ": " + std::strerror(errno));
}

bool parse_number(std::string_view text, std::uint32_t& out) {
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc{} && end == text.data() + text.size();
}

/// In the new process, which has one thread: becomes `coppice launcher`.
[[noreturn]] void execute_launcher(const std::string& program, std::vector<std::string> arguments,
                                   int socket) {
  const int nothing = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  const int moved = ::fcntl(socket, F_DUPFD_CLOEXEC, launcher_socket_number + 1);
  ::dup2(nothing, STDIN_FILENO);
  ::dup2(moved, launcher_socket_number);
  ::close_range(launcher_socket_number + 1, ~0u, CLOSE_RANGE_CLOEXEC);
  std::vector<char*> argv;
  for (auto& a : arguments) {
    argv.push_back(a.data());
  }
  argv.push_back(nullptr);
  char* no_environment[] = {nullptr};
  ::execve(program.c_str(), argv.data(), no_environment);
  ::_exit(127);
}

} // namespace

std::vector<std::string> to_arguments(const launcher_config& config) {
  std::vector<std::string> out{"uid-first=" + std::to_string(config.uid_first),
                               "uid-count=" + std::to_string(config.uid_count),
                               "owner-uid=" + std::to_string(config.owner_uid),
                               "owner-gid=" + std::to_string(config.owner_gid)};
  for (std::size_t i = 1; i < child_kinds; ++i) {
    if (!config.contents.programs[i].empty()) {
      out.push_back(std::string{program_prefix} +
                    std::string{to_string(static_cast<child_kind>(i))} + "=" +
                    config.contents.programs[i]);
    }
  }
  for (const auto& file : config.contents.guest_files) {
    out.push_back(std::string{guest_prefix} + file);
  }
  return out;
}

std::optional<launcher_config> parse_launcher_arguments(const std::vector<std::string>& arguments) {
  launcher_config out;
  const std::pair<std::string_view, std::uint32_t*> numbers[] = {{"uid-first", &out.uid_first},
                                                                 {"uid-count", &out.uid_count},
                                                                 {"owner-uid", &out.owner_uid},
                                                                 {"owner-gid", &out.owner_gid}};
  for (const std::string_view argument : arguments) {
    const auto equals = argument.find('=');
    if (equals == argument.npos) {
      return std::nullopt;
    }
    const auto name = argument.substr(0, equals);
    const auto value = argument.substr(equals + 1);
    bool is_known = false;
    for (const auto& [known, number] : numbers) {
      is_known = is_known || (name == known && parse_number(value, *number));
    }
    for (std::size_t i = 1; i < child_kinds && name.starts_with(program_prefix); ++i) {
      if (name.substr(program_prefix.size()) == to_string(static_cast<child_kind>(i))) {
        out.contents.programs[i] = value;
        is_known = true;
      }
    }
    if (argument.starts_with(guest_prefix)) {
      out.contents.guest_files.emplace_back(value);
      is_known = true;
    }
    if (!is_known) {
      return std::nullopt;
    }
  }
  return out;
}

result<std::shared_ptr<launcher>> launcher::start(launcher_config config,
                                                  const std::string& program) {
  if (::geteuid() != 0) {
    return fail(ec::spawn, "the daemon was not started as root");
  }
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return cannot("making a socket pair");
  }
  unique_fd ours{ends[0]};
  unique_fd theirs{ends[1]};
  std::vector<std::string> arguments{"coppice", launcher_command};
  for (auto& argument : to_arguments(config)) {
    arguments.push_back(std::move(argument));
  }
  const pid_t pid = ::fork();
  if (pid < 0) {
    return cannot("starting the launcher");
  }
  if (pid == 0) {
    execute_launcher(program, std::move(arguments), theirs.get());
  }
  theirs.reset();
  unique_fd pidfd{static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))}; // glibc's is not for C++
  ::fcntl(pidfd.get(), F_SETFD, FD_CLOEXEC);
  std::shared_ptr<launcher> out{
      new launcher{std::move(config), pid, std::move(pidfd), std::move(ours)}};
  if (auto greeted = out->greet(); !greeted) {
    return greeted.error();
  }
  return out;
}

launcher::launcher(launcher_config config, pid_t pid, unique_fd pidfd, unique_fd socket)
    : config_{std::move(config)}, pid_{pid}, pidfd_{std::move(pidfd)}, socket_{std::move(socket)} {
  for (const auto& file : config_.contents.guest_files) {
    guest_files_.emplace_back(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  }
}

launcher::~launcher() {
  socket_.reset(); // it ends by that
  pollfd wait{pidfd_.get(), POLLIN, 0};
  ::poll(&wait, 1, end_ms);
  siginfo_t ignored{};
  ::waitid(P_PID, static_cast<id_t>(pid_), &ignored, WEXITED | WNOHANG);
}

result<void> launcher::greet() {
  const timeval patience{answer_seconds, 0};
  ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  received message;
  const auto what = receive(socket_.get(), sizeof(launch_answer), message);
  if (what != receipt::message || message.bytes.size() != sizeof(launch_answer)) {
    return fail(ec::spawn, "the launcher ended without a word");
  }
  launch_answer answer{};
  std::memcpy(&answer, message.bytes.data(), sizeof(answer));
  std::string_view text{answer.text, ::strnlen(answer.text, sizeof(answer.text))};
  if (answer.pid < 0) {
    return fail(ec::spawn, std::string{text});
  }
  while (!text.empty()) {
    const auto line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    facts_.has_user_namespaces = facts_.has_user_namespaces || line == user_namespaces_word;
    if (line.starts_with(without_cgroups_prefix)) {
      facts_.without_cgroups = line.substr(without_cgroups_prefix.size());
    }
  }
  return {};
}

result<launched_process> launcher::launch(const launch_request& request,
                                          const std::vector<int>& descriptors) {
  auto bytes = encode(request);
  if (!bytes) {
    return bytes.error();
  }
  if (descriptors.size() != request.placements.size()) {
    return fail(ec::protocol, "a request to the launcher needs a place for each descriptor");
  }
  std::lock_guard lock{mutex_};
  if (!socket_) {
    return fail(ec::closed, "the launcher has ended");
  }
  if (!send_packet(socket_.get(), *bytes, descriptors)) {
    return cannot("asking the launcher");
  }
  received message;
  const auto what = receive(socket_.get(), sizeof(launch_answer), message);
  if (what != receipt::message || message.bytes.size() != sizeof(launch_answer)) {
    socket_.reset(); // a late answer must not be taken for that of the next request
    return fail(ec::closed, "the launcher did not answer");
  }
  launch_answer answer{};
  std::memcpy(&answer, message.bytes.data(), sizeof(answer));
  if (answer.pid < 0 || message.descriptors.size() != 1) {
    return fail(ec::spawn, std::string{answer.text, ::strnlen(answer.text, sizeof(answer.text))});
  }
  return launched_process{answer.pid, std::move(message.descriptors.front())};
}

std::optional<std::string> launcher::guest_path(const std::string& host_path) const {
  const auto& files = config_.contents.guest_files;
  for (std::size_t i = 0; i < files.size(); ++i) {
    if (files[i] == host_path) {
      return guest_file_in_jail(config_.contents, i);
    }
  }
  return std::nullopt;
}

int launcher::guest_file(const std::string& host_path) const {
  const auto& files = config_.contents.guest_files;
  for (std::size_t i = 0; i < files.size(); ++i) {
    if (files[i] == host_path) {
      return guest_files_[i].get();
    }
  }
  return -1;
}

} // namespace coppice::vmm
