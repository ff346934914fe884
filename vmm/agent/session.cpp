#include "vmm/agent/session.hpp"

#include "vmm/agent/log.hpp"
#include "vmm/agent/reaper.hpp"

#include <algorithm>

#include <sys/signalfd.h>

namespace coppice::agent {
namespace {

/// The host's end of the port closes only with the host; while a machine is saved or restored it
/// may look closed for a moment.
constexpr std::chrono::seconds away_max{10};
/// A closed port cannot be waited for: it reports its state at once, always.
constexpr int away_pause_ms = 50;

} // namespace

session::session(port host, disk image, descriptor signals)
    : host_{std::move(host)}, image_{std::move(image)}, signals_{std::move(signals)} {}

result<void> session::serve() {
  send_ready(host_);
  while (!is_off_ordered_) {
    if (auto waited = wait(); !waited) {
      return waited;
    }
    reap_ended();
    if (run_) {
      run_->advance();
      if (run_->is_over()) {
        run_.reset();
      }
    }
  }
  if (run_) {
    run_->abandon();
  }
  return {};
}

int session::wait_ms() const {
  if (has_more_ended_) {
    return 0;
  }
  int ms = is_host_away_ ? away_pause_ms : -1;
  auto deadline = run_ ? run_->deadline() : std::nullopt;
  if (deadline) {
    auto left = std::chrono::ceil<std::chrono::milliseconds>(*deadline - run::clock::now()).count();
    constexpr std::int64_t hour_ms = 3'600'000;
    auto until = static_cast<int>(std::clamp<std::int64_t>(left, 0, hour_ms));
    ms = ms < 0 ? until : std::min(ms, until);
  }
  return ms;
}

result<void> session::wait() {
  interests_.clear();
  interests_.push_back({signals_.get(), POLLIN, 0});
  auto to_host = static_cast<short>(host_.has_queued() ? POLLIN | POLLOUT : POLLIN);
  interests_.push_back({is_host_away_ ? -1 : host_.fd(), to_host, 0});
  if (run_) {
    run_->add_interests(interests_);
  }
  if (::poll(interests_.data(), interests_.size(), wait_ms()) < 0 && errno != EINTR) {
    return last_error("waiting for events");
  }
  if (interests_[0].revents != 0) {
    signalfd_siginfo info;
    while (::read(signals_.get(), &info, sizeof(info)) > 0) {
    }
  }
  return hear_host();
}

result<void> session::hear_host() {
  pollfd now{host_.fd(), static_cast<short>(POLLIN | POLLOUT), 0};
  ::poll(&now, 1, 0);
  if (now.revents & (POLLHUP | POLLERR)) {
    if (!is_host_away_) {
      away_since_ = run::clock::now();
    }
    is_host_away_ = true;
    if (run::clock::now() - away_since_ > away_max) {
      return errno_failure(EPIPE, "the host has closed the port");
    }
    return {};
  }
  is_host_away_ = false;
  if (now.revents & POLLOUT) {
    if (auto flushed = host_.flush(); !flushed) {
      return flushed;
    }
  }
  if (now.revents & POLLIN) {
    return host_.receive([this](frame<proto::ToGuest> message) { take(message); });
  }
  return {};
}

void session::take(const frame<proto::ToGuest>& message) {
  auto view = message.view();
  if (view->isPoweroff()) {
    is_off_ordered_ = true;
    return;
  }
  if (view->isStart()) {
    return take_start(message);
  }
  if (!run_ || run_->is_over() || run_->number() != view->getRun()) {
    return; // of a run that is over
  }
  switch (view->which()) {
  case proto::ToGuest::FILE_CHUNK:
    return run_->take_file(view->getFileChunk());
  case proto::ToGuest::STDIN:
    return run_->take_stdin(view->getStdin());
  case proto::ToGuest::SIGNAL:
    return run_->take_signal(view->getSignal());
  case proto::ToGuest::EXEC:
    return run_->take_exec(view->getExec());
  default:
    log_line("an order that this agent does not know");
  }
}

void session::take_start(const frame<proto::ToGuest>& message) {
  auto number = message.view()->getRun();
  if ((run_ && !run_->is_over()) || number <= last_run_) {
    log_line("refused to start run " + std::to_string(number) + ": it is not the next one");
    return;
  }
  last_run_ = number;
  run_.emplace(host_, image_, message);
  run_->begin();
}

void session::reap_ended() {
  auto left = reap([this](pid_t pid, int status, const rusage& usage) {
    if (run_) {
      run_->take_reaped(pid, status, usage);
    }
  });
  has_more_ended_ = left == children::ended;
}

} // namespace coppice::agent
