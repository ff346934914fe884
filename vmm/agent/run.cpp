#include "vmm/agent/run.hpp"

#include "vmm/agent/guest_state.hpp"
#include "vmm/agent/in_root.hpp"
#include "vmm/agent/log.hpp"
#include "vmm/agent/reaper.hpp"

#include <algorithm>

#include <signal.h>

namespace coppice::agent {
namespace {

void log_failure(const result<void>& done) {
  if (!done) {
    log_line(done.error().text);
  }
}

std::string text(capnp::Text::Reader from) {
  return {from.begin(), from.size()};
}

} // namespace

run::run(port& host, disk& image, frame<proto::ToGuest> order)
    : host_{host}, image_{image}, order_{std::move(order)}, number_{order_.view()->getRun()} {}

void run::begin() {
  auto order = order_.view();
  auto start = order->getStart();
  if (auto fresh = set_up_guest(start); !fresh) {
    return fail("prepare", fresh.error());
  }
  if (start.getMakeDisk()) {
    if (auto made = image_.make(); !made) {
      return fail("mount", made.error());
    }
  }
  auto mounted = start.getHoldDisk() ? image_.mount_read_only() : image_.mount();
  if (!mounted) {
    return fail("mount", mounted.error());
  }
  if (start.getNewBytesMax() > 0) {
    log_failure(image_.limit_growth(start.getNewBytesMax()));
  }
  send_mounted(host_, number_);
  if (auto prepared = image_.mount_system_folders(); !prepared) {
    return fail("mount", prepared.error());
  }
  log_failure(cover_boot_id(image_.root()));
  log_failure(image_.become_root());
  files_ = file_placer{image_.root(), start.getFiles()};
  if (files_.is_complete()) {
    start_main();
  }
}

/// A guest that was restored has the clock and the random pool of its siblings: with those no
/// process may run. The rest keeps none from running, so a failure is told on the console only.
result<void> run::set_up_guest(proto::ToGuest::Start::Reader start) {
  if (auto set = set_wall_clock(start.getUnixTimeNs()); !set) {
    return set;
  }
  auto entropy = start.getEntropy();
  if (auto seeded = add_entropy({entropy.begin(), entropy.size()}); !seeded) {
    return seeded;
  }
  log_failure(draw_boot_id());
  log_failure(set_host_name(text(start.getHostname())));
  log_failure(raise_loopback());
  return {};
}

void run::take_file(proto::ToGuest::FileChunk::Reader chunk) {
  if (phase_ != phase::placing) {
    return; // of a run that has already failed
  }
  auto data = chunk.getData();
  if (auto taken = files_.take(chunk.getIndex(), {data.begin(), data.size()}); !taken) {
    return fail("files", taken.error());
  }
  if (files_.is_complete()) {
    start_main();
  }
}

void run::take_stdin(proto::ToGuest::StdinChunk::Reader chunk) {
  if (chunk.getSpid() != main_spid) {
    return;
  }
  auto data = chunk.getData().asChars();
  if (!input_.feed({data.begin(), data.size()}, chunk.getClose())) {
    log_line("standard input is more than the agent may hold: it ends early");
  }
}

void run::take_signal(proto::ToGuest::Signal::Reader signal) {
  if (phase_ == phase::running && !has_ended_ && signal.getSpid() == main_spid) {
    ::kill(-end_.pid, signal.getNumber());
  }
}

result<process_plan> run::make_plan(proto::ToGuest::Start::Reader start) {
  auto process = start.getProcess();
  auto config = start.getConfig();
  process_plan plan;
  plan.root = image_.root();
  identity_request who;
  auto user = config.getUser();
  who.user = {user.begin(), user.size()};
  if (process.getHasUid()) {
    who.uid = process.getUid();
  }
  if (process.getHasGid()) {
    who.gid = process.getGid();
  }
  auto resolved =
      resolve_identity(who, read_in_root(plan.root, "/etc/passwd", account_file_bytes_max),
                       read_in_root(plan.root, "/etc/group", account_file_bytes_max));
  if (!resolved) {
    return resolved.error();
  }
  plan.who = std::move(*resolved);
  plan.command = make_command_line(process, config, plan.who);
  plan.cwd = text(process.getCwd().size() > 0 ? process.getCwd() : config.getWorkingDir());
  if (plan.cwd.empty() || !is_folder_in_root(plan.root, plan.cwd)) {
    plan.cwd = "/";
  }
  return plan;
}

void run::start_main() {
  auto order = order_.view();
  auto start = order->getStart();
  auto plan = make_plan(start);
  if (!plan) {
    return fail("prepare", plan.error());
  }
  started_at_ = clock::now();
  auto main = start_process(*plan);
  if (!main) {
    return fail("prepare", main.error());
  }
  auto kept_bytes_max =
      std::min(start.getProcess().getTruncateOutputAtBytes(), limits::output_kept_bytes_max);
  end_.pid = main->pid;
  output_ = output_stream{std::move(main->output), kept_bytes_max};
  errors_ = output_stream{std::move(main->errors), kept_bytes_max};
  phase_ = phase::running;
  if (start.getTimeoutMs() > 0) {
    constexpr std::uint64_t forever_ms = 1ull << 40;
    deadline_ = started_at_ + std::chrono::milliseconds{
                                  std::min<std::uint64_t>(start.getTimeoutMs(), forever_ms)};
  }
  send_started(host_, number_, *main, *plan);
  if (!main->refusal.empty()) {
    errors_.add(main->refusal, [this](auto data) { send_output(host_, number_, true, data); });
  }
  input_.attach(std::move(main->input));
}

void run::take_reaped(pid_t pid, int status, const rusage& usage) {
  if (pid == end_.pid && !has_ended_) {
    has_ended_ = true;
    end_.status = status;
    end_.usage = usage;
    end_.elapsed =
        std::chrono::duration_cast<std::chrono::microseconds>(clock::now() - started_at_);
  }
}

void run::add_interests(std::vector<pollfd>& to) const {
  for (auto* stream : {&output_, &errors_}) {
    if (stream->is_open() && !host_.is_congested()) {
      to.push_back({stream->fd(), POLLIN, 0});
    }
  }
  if (input_.waiting_fd() >= 0) {
    to.push_back({input_.waiting_fd(), POLLOUT, 0});
  }
}

std::optional<run::clock::time_point> run::deadline() const {
  return phase_ == phase::running ? deadline_ : std::nullopt;
}

void run::advance() {
  if (phase_ == phase::running && !has_ended_ && deadline_ && clock::now() >= *deadline_) {
    end_.is_timed_out = true;
    end_processes();
  }
  if (phase_ == phase::running && has_ended_) {
    end_processes();
  }
  if (phase_ == phase::running || phase_ == phase::draining) {
    pump();
  }
}

/// The main process's end is the end of all.
void run::end_processes() {
  image_.thaw();
  input_.abandon();
  auto ended = end_all_processes(
      [this](pid_t pid, int status, const rusage& usage) { take_reaped(pid, status, usage); });
  if (!ended) {
    in_the_way_ = ended.error().text;
  }
  if (!has_ended_) {
    take_reaped(end_.pid, SIGKILL, rusage{});
  }
  phase_ = phase::draining;
}

void run::pump() {
  input_.write_some();
  bool is_last = phase_ == phase::draining;
  // While the process runs one read of each, so that the host is heard in between.
  do {
    for (auto* stream : {&output_, &errors_}) {
      if (stream->is_open() && !host_.is_congested()) {
        stream->pump(is_last,
                     [&](auto data) { send_output(host_, number_, stream == &errors_, data); });
      }
    }
  } while (is_last && (output_.is_open() || errors_.is_open()) && !host_.is_congested());
  if (is_last && !output_.is_open() && !errors_.is_open()) {
    send_exited(host_, number_, end_, output_, errors_);
    is_held_ = order_.view()->getStart().getHoldDisk();
    close_disk();
  }
}

void run::fail(std::string_view stage, const failure& why) {
  send_failed(host_, number_, stage, why);
  files_ = {};
  end_processes();
  close_disk();
}

void run::close_disk() {
  auto closed = is_held_ ? image_.hold() : image_.unmount();
  if (!closed && in_the_way_.empty()) {
    in_the_way_ = closed.error().text;
  }
  send_finished(host_, number_, in_the_way_);
  phase_ = phase::over;
}

void run::abandon() {
  end_processes();
  static_cast<void>(image_.unmount());
  phase_ = phase::over;
}

} // namespace coppice::agent
