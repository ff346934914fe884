#include "vmm/agent/running_process.hpp"

#include "vmm/agent/log.hpp"

#include <signal.h>
#include <sys/wait.h>

namespace coppice::agent {
namespace {

/// The host hears of input that was taken in steps of this size, and when none is left.
constexpr std::uint64_t taken_step_bytes = 256u << 10;

} // namespace

result<void> running_process::start(const process_plan& plan, std::uint64_t kept_bytes_max) {
  started_at_ = clock::now();
  auto begun = start_process(plan);
  if (!begun) {
    return begun.error();
  }
  end_.pid = begun->pid;
  output_ = output_stream{std::move(begun->output), kept_bytes_max};
  errors_ = output_stream{std::move(begun->errors), kept_bytes_max};
  send_started(host_, name_, *begun, plan);
  if (!begun->refusal.empty()) {
    errors_.add(begun->refusal, [this](auto data) { send_output(host_, name_, true, data); });
  }
  input_.attach(std::move(begun->input));
  say_taken();
  return {};
}

void running_process::feed(std::string_view data, bool close) {
  if (!input_.feed(data, close)) {
    log_line("standard input is more than the agent may hold: it ends early");
  }
  if (runs()) {
    say_taken();
  }
}

void running_process::signal(int number) {
  if (runs()) {
    is_kill_expected_ = is_kill_expected_ || number == SIGKILL;
    ::kill(-end_.pid, number);
  }
}

bool running_process::may_be_oom_kill(int status) const {
  constexpr int killed_in_shell = 128 + SIGKILL;
  const bool is_killed =
      WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == killed_in_shell;
  return is_killed && !is_kill_expected_ && !end_.is_timed_out;
}

void running_process::take_end(int status, const rusage& usage, bool is_oom_kill) {
  has_ended_ = true;
  end_.is_oom_kill = is_oom_kill;
  end_.status = status;
  end_.usage = usage;
  end_.elapsed = std::chrono::duration_cast<std::chrono::microseconds>(clock::now() - started_at_);
  input_.abandon();
  output_.end_with_what_is_there();
  errors_.end_with_what_is_there();
}

void running_process::end_with_all() {
  if (!has_ended_) {
    take_end(SIGKILL, rusage{}, false);
  }
  output_.end_with_the_pipe();
  errors_.end_with_the_pipe();
}

void running_process::add_interests(std::vector<pollfd>& to) const {
  for (auto* stream : {&output_, &errors_}) {
    if (stream->is_open() && !stream->is_done() && !host_.is_congested()) {
      to.push_back({stream->fd(), POLLIN, 0});
    }
  }
  if (input_.waiting_fd() >= 0) {
    to.push_back({input_.waiting_fd(), POLLOUT, 0});
  }
}

void running_process::pump(bool is_last) {
  if (runs()) {
    input_.write_some();
    say_taken();
  }
  for (auto* stream : {&output_, &errors_}) {
    while (!stream->is_done() && !host_.is_congested()) {
      stream->pump(is_last,
                   [&](auto data) { send_output(host_, name_, stream == &errors_, data); });
      if (!has_ended_) {
        break; // one read of each, so that the host and the others have their turns
      }
    }
  }
}

void running_process::say_taken() {
  auto taken = input_.taken_bytes();
  auto is_closed = input_.is_abandoned();
  auto news = taken - said_taken_bytes_;
  if (news >= taken_step_bytes || (news > 0 && input_.held_bytes() == 0) ||
      (is_closed && !said_closed_)) {
    said_taken_bytes_ = taken;
    said_closed_ = is_closed;
    send_stdin_taken(host_, name_, taken, is_closed);
  }
}

void running_process::say_exited() {
  send_exited(host_, name_, end_, output_, errors_);
}

void running_process::hand_over(std::vector<output_stream>& to) {
  for (auto* stream : {&output_, &errors_}) {
    if (stream->is_open()) {
      stream->keep_no_more();
      to.push_back(std::move(*stream));
    }
  }
}

} // namespace coppice::agent
