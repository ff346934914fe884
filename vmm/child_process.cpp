#include "vmm/child_process.hpp"

#include "vmm/find_program.hpp"
#include "vmm/guard.hpp"
#include "vmm/launcher.hpp"
#include "vmm/output_tail.hpp"
#include "vmm/spawn.hpp"

#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <mutex>

namespace coppice::vmm {

namespace {

namespace asio = boost::asio;

// How long the destructor of a forgotten child waits for its end, so that no zombie stays behind.
constexpr int last_wait_ms = 5000;

std::mutex guard_program_mutex;
std::string guard_program = "/proc/self/exe";

std::string current_guard_program() {
  std::lock_guard lock{guard_program_mutex};
  return guard_program;
}

bool is_listed(const child_options& options, int number) {
  return std::any_of(options.descriptors.begin(), options.descriptors.end(),
                     [&](const auto& entry) { return entry.second == number; });
}

failure pipe_failure(const std::string& program) {
  return fail(ec::spawn, "starting " + program + ": making pipes: " + std::strerror(errno));
}

} // namespace

void set_guard_program(std::string absolute_path) {
  std::lock_guard lock{guard_program_mutex};
  guard_program = std::move(absolute_path);
}

/// Kept alive by the wait for the process's end, also when the handle is gone.
struct child_process::impl : std::enable_shared_from_this<impl> {
  impl(asio::io_context& context, spawned_process started, unique_fd lifeline_end,
       std::shared_ptr<tail_reader> reader, exit_callback callback)
      : pid{started.pid}, pidfd{started.pidfd.get()}, leads_namespace{started.leads_namespace},
        lifeline{std::move(lifeline_end)}, waiter{context, started.pidfd.release()},
        output{std::move(reader)}, on_exit{std::move(callback)} {}

  ~impl() {
    if (reaped) {
      return;
    }
    // The loop went down before the child did: this is the last chance to leave nothing behind.
    kill();
    pollfd wait{pidfd, POLLIN, 0};
    ::poll(&wait, 1, last_wait_ms);
    siginfo_t ignored{};
    ::waitid(P_PIDFD, static_cast<id_t>(pidfd), &ignored, WEXITED | WNOHANG);
  }

  void kill() const {
    if (leads_namespace) {
      ::syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, nullptr, 0); // glibc 2.36 declares it as C++
    }
    // Without a namespace a dead guard could not kill the rest: it is told to.
    ::shutdown(lifeline.get(), SHUT_WR);
  }

  void watch() {
    output->start();
    waiter.async_wait(asio::posix::stream_descriptor::wait_read,
                      [self = shared_from_this()](const boost::system::error_code& error) {
                        if (!error) {
                          self->finish();
                        }
                      });
  }

  void finish() {
    siginfo_t info{};
    ::waitid(P_PIDFD, static_cast<id_t>(pidfd), &info, WEXITED | WNOHANG);
    reaped = true;
    child_exit how;
    how.signal = SIGKILL; // the guard is gone without a word: it was killed, and all with it
    guard_report said{};
    if (::recv(lifeline.get(), &said, sizeof(said), MSG_DONTWAIT) == sizeof(said)) {
      how.code = said.code;
      how.signal = said.signal;
    } else if (info.si_code == CLD_EXITED && info.si_status != 0) {
      how.code = info.si_status; // it could not even begin
      how.signal = -1;
    }
    output->drain();
    how.output = output->text();
    output->close();
    if (auto callback = std::exchange(on_exit, nullptr)) {
      callback(std::move(how));
    }
  }

  const int pid;
  const int pidfd; // owned by `waiter`, valid as long as this is
  const bool leads_namespace;
  const unique_fd lifeline;
  asio::posix::stream_descriptor waiter;
  std::shared_ptr<tail_reader> output;
  exit_callback on_exit;
  bool reaped = false; // the loop's thread, or the destructor
};

namespace {

/// The ends of what connects us with a child.
struct child_channels {
  unique_fd lifeline;
  unique_fd lifeline_there;
  unique_fd output;
  unique_fd output_there;
  unique_fd nothing; ///< its standard input, unless one is listed
};

result<child_channels> make_channels(const std::string& program) {
  child_channels out;
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return pipe_failure(program);
  }
  out.lifeline.reset(ends[0]);
  out.lifeline_there.reset(ends[1]);
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    return pipe_failure(program);
  }
  out.output.reset(ends[0]);
  out.output_there.reset(ends[1]);
  out.nothing.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (!out.nothing) {
    return pipe_failure(program);
  }
  return out;
}

/// What the child gets but for the life-line: what is listed, and standard streams.
std::vector<std::pair<int, int>> descriptors_of(const child_options& options,
                                                const child_channels& channels) {
  auto out = options.descriptors;
  for (int number : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (!is_listed(options, number)) {
      const auto& ours = number == STDIN_FILENO ? channels.nothing : channels.output_there;
      out.emplace_back(ours.get(), number);
    }
  }
  return out;
}

/// Started by this process itself.
result<spawned_process> start_here(const child_options& options, const child_channels& channels) {
  auto path = find_program(options.argv.front());
  if (!path) {
    return fail(ec::spawn, path.error().text);
  }
  spawn_request request;
  request.program = current_guard_program();
  request.environment = options.environment;
  request.working_dir = options.working_dir;
  request.descriptors = descriptors_of(options, channels);
  int lifeline_number = STDERR_FILENO + 1;
  for (const auto& [ours, number] : options.descriptors) {
    lifeline_number = std::max(lifeline_number, number + 1);
  }
  request.descriptors.emplace_back(channels.lifeline_there.get(), lifeline_number);
  // The guard learns only after it has been started whether it leads a namespace: by its pid.
  request.argv = {"coppice", guard_command, std::to_string(lifeline_number), *path};
  request.argv.insert(request.argv.end(), options.argv.begin(), options.argv.end());
  return spawn(request);
}

/// An argument with the paths that it has in the jail.
std::string in_jail(std::string argument, const child_options& options, const launcher& jailer) {
  if (auto there = jailer.guest_path(argument)) {
    return *there;
  }
  for (const auto& folder : options.folders) {
    const std::string there = folder.role == placement::scratch ? "/scratch" : "/layout";
    for (auto at = argument.find(folder.path); at != argument.npos;
         at = argument.find(folder.path, at + there.size())) {
      argument.replace(at, folder.path.size(), there);
    }
  }
  return argument;
}

/// Started by the launcher, in a jail.
result<spawned_process> start_jailed(launcher& jailer, const child_options& options,
                                     const child_channels& channels) {
  launch_request request;
  request.kind = options.kind;
  request.needs_kvm = options.needs_kvm;
  request.address_space_bytes = options.address_space_bytes;
  request.file_bytes = options.file_bytes;
  request.memory_bytes = options.memory_bytes;
  const bool is_worker =
      options.kind == child_kind::import_worker || options.kind == child_kind::inspect_worker;
  for (std::size_t i = is_worker ? 2 : 1; i < options.argv.size(); ++i) {
    request.arguments.push_back(in_jail(options.argv[i], options, jailer));
  }
  std::vector<int> descriptors;
  for (const auto& [ours, number] : descriptors_of(options, channels)) {
    if (number < 0 || number > launch_limits::descriptor_number_max) {
      return fail(ec::spawn, "descriptor number " + std::to_string(number) + " is out of range");
    }
    request.placements.push_back(static_cast<std::int16_t>(number));
    descriptors.push_back(ours);
  }
  request.placements.push_back(placement::lifeline);
  descriptors.push_back(channels.lifeline_there.get());
  std::vector<unique_fd> folders;
  for (const auto& folder : options.folders) {
    folders.emplace_back(::open(folder.path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!folders.back()) {
      const int error_number = errno;
      auto why = "opening " + folder.path + ": " + std::strerror(error_number);
      if (error_number == EACCES) {
        why += " (user id " + std::to_string(::geteuid()) +
               ", which the daemon runs as, must be able to)";
      }
      return fail(ec::spawn, why);
    }
    request.placements.push_back(folder.role);
    descriptors.push_back(folders.back().get());
  }
  auto started = jailer.launch(request, descriptors);
  if (!started) {
    return started.error();
  }
  // Another user's process cannot be signalled from here: it ends by its life-line.
  return spawned_process{started->pid, std::move(started->pidfd), false};
}

} // namespace

result<std::shared_ptr<child_process>> child_process::start(event_loop& loop, child_options options,
                                                            exit_callback on_exit) {
  if (options.argv.empty()) {
    return fail(ec::spawn, "no program given");
  }
  auto channels = make_channels(options.argv.front());
  if (!channels) {
    return channels.error();
  }
  auto* jailer = options.kind == child_kind::plain ? nullptr : loop.jailer();
  auto started = jailer != nullptr ? start_jailed(*jailer, options, *channels)
                                   : start_here(options, *channels);
  if (!started) {
    return started.error();
  }
  auto reader = std::make_shared<tail_reader>(loop.context(), std::move(channels->output),
                                              options.output_bytes_max);
  auto state =
      std::make_shared<impl>(loop.context(), std::move(*started), std::move(channels->lifeline),
                             std::move(reader), std::move(on_exit));
  asio::post(loop.context(), [state] { state->watch(); });
  return std::shared_ptr<child_process>{new child_process{std::move(state)}};
}

child_process::child_process(std::shared_ptr<impl> state) : impl_{std::move(state)} {}

child_process::~child_process() {
  impl_->kill();
}

void child_process::kill() {
  impl_->kill();
}

int child_process::pid() const {
  return impl_->pid;
}

} // namespace coppice::vmm
