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

std::uint64_t kept_bytes_max(proto::ProcessSpec::Reader process) {
  return std::min(process.getTruncateOutputAtBytes(), limits::output_kept_bytes_max);
}

} // namespace

run::run(port& host, disk& image, frame<proto::ToGuest> order)
    : host_{host}, image_{image}, order_{std::move(order)}, number_{order_.view()->getRun()},
      processes_{host_, number_} {}

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
  if (auto* process = processes_.find(chunk.getSpid())) {
    auto data = chunk.getData().asChars();
    process->feed({data.begin(), data.size()}, chunk.getClose());
  }
}

void run::take_signal(proto::ToGuest::Signal::Reader signal) {
  auto* process = is_running() ? processes_.find(signal.getSpid()) : nullptr;
  if (process) {
    process->signal(signal.getNumber());
  }
}

void run::take_exec(proto::ToGuest::Exec::Reader exec) {
  if (!is_running()) {
    return; // the host hears of the end of all
  }
  auto spid = exec.getSpid();
  auto order = order_.view();
  auto plan = make_plan(exec.getProcess(), order->getStart().getProcess());
  if (!plan) {
    return send_exec_failed(host_, {number_, spid}, plan.error());
  }
  auto process = processes_.add(spid);
  if (!process) {
    return send_exec_failed(host_, {number_, spid}, process.error());
  }
  if (auto begun = (*process)->start(*plan, kept_bytes_max(exec.getProcess())); !begun) {
    processes_.remove(spid);
    send_exec_failed(host_, {number_, spid}, begun.error());
  }
}

result<process_plan> run::make_plan(proto::ProcessSpec::Reader process,
                                    proto::ProcessSpec::Reader beside) {
  auto order = order_.view();
  auto config = order->getStart().getConfig();
  process_plan plan;
  plan.root = image_.root();
  identity_request who;
  auto user = config.getUser();
  who.user = {user.begin(), user.size()};
  if (process.getHasUid() || beside.getHasUid()) {
    who.uid = process.getHasUid() ? process.getUid() : beside.getUid();
  }
  // Another user does not get the group of the process beside it.
  if (process.getHasGid() || (!process.getHasUid() && beside.getHasGid())) {
    who.gid = process.getHasGid() ? process.getGid() : beside.getGid();
  }
  auto resolved = resolve_identity(who, passwd_, group_);
  if (!resolved) {
    return resolved.error();
  }
  plan.who = std::move(*resolved);
  plan.command = make_command_line(process, config, plan.who, beside);
  for (auto cwd : {process.getCwd(), beside.getCwd(), config.getWorkingDir()}) {
    if (plan.cwd.empty()) {
      plan.cwd = text(cwd);
    }
  }
  if (plan.cwd.empty()) {
    plan.cwd = "/";
  }
  return plan;
}

void run::start_main() {
  auto order = order_.view();
  auto start = order->getStart();
  passwd_ = read_in_root(image_.root(), "/etc/passwd", account_file_bytes_max);
  group_ = read_in_root(image_.root(), "/etc/group", account_file_bytes_max);
  auto plan = make_plan(start.getProcess(), {});
  if (!plan) {
    return fail("prepare", plan.error());
  }
  auto& main = processes_.main();
  if (auto begun = main.start(*plan, kept_bytes_max(start.getProcess())); !begun) {
    return fail("prepare", begun.error());
  }
  phase_ = phase::running;
  if (start.getTimeoutMs() > 0) {
    constexpr std::uint64_t forever_ms = 1ull << 40;
    deadline_ = main.started_at() + std::chrono::milliseconds{
                                        std::min<std::uint64_t>(start.getTimeoutMs(), forever_ms)};
  }
}

void run::take_reaped(pid_t pid, int status, const rusage& usage) {
  processes_.take_reaped(pid, status, usage);
}

void run::add_interests(std::vector<pollfd>& to) const {
  processes_.add_interests(to);
}

std::optional<run::clock::time_point> run::deadline() const {
  return phase_ == phase::running ? deadline_ : std::nullopt;
}

void run::advance() {
  if (is_running() && deadline_ && clock::now() >= *deadline_) {
    processes_.expire();
    end_processes();
  }
  if (phase_ == phase::running && processes_.main().has_ended()) {
    end_processes();
  }
  if (phase_ == phase::running) {
    processes_.pump();
  } else if (phase_ == phase::draining && processes_.drain()) {
    is_held_ = order_.view()->getStart().getHoldDisk();
    close_disk();
  }
}

/// The main process's end is the end of all.
void run::end_processes() {
  image_.thaw();
  processes_.expect_kills();
  auto ended = end_all_processes(
      [this](pid_t pid, int status, const rusage& usage) { take_reaped(pid, status, usage); });
  if (!ended) {
    in_the_way_ = ended.error().text;
  }
  processes_.end_all();
  phase_ = phase::draining;
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
