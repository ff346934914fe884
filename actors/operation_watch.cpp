#include "actors/operation.hpp"
#include "actors/requests.hpp"

// When an operation's events are written, and who is told of it: see event_watchers.hpp.

namespace coppice {

caf::result<frame<proto::OperationProgress>>
operation_state::watch(const frame<proto::WatchOperation>& request) {
  auto promise = self_->make_response_promise<frame<proto::OperationProgress>>();
  watchers_.add(request.view()->getHaveEvents(), promise, self_->clock().now());
  if (stage_ == stage::final || stage_ == stage::parked) {
    watchers_.end();
  } else if (!watchers_.empty()) {
    if (log_.has_waiting()) {
      arm_flush();
    }
    if (!watch_armed_) {
      watch_armed_ = true;
      arm(timer::watch, event_watchers::wait_max);
    }
  }
  return promise;
}

void operation_state::let_watchers_go() {
  watch_armed_ = false;
  watchers_.let_go(self_->clock().now());
  if (!watchers_.empty()) {
    watch_armed_ = true;
    arm(timer::watch, event_watchers::wait_max);
  }
}

void operation_state::arm_flush() {
  if (watchers_.empty()) {
    if (!flush_armed_) {
      flush_armed_ = true;
      arm(timer::flush, flush_delay);
    }
  } else if (!prompt_flush_armed_) {
    prompt_flush_armed_ = true;
    arm(timer::prompt_flush, prompt_flush_delay);
  }
}

void operation_state::note_full_log() {
  log_.add(0, unix_now_ns(), [&](proto::Event::Builder e) {
    auto cap = e.initSizeCap();
    cap.setLimitBytes(event_log::log_bytes_max);
    cap.setLoggedBytes(log_.logged_bytes());
  });
  arm_flush();
}

void operation_state::tick(timer t) {
  switch (t) {
  case timer::watch:
    let_watchers_go();
    return;
  case timer::flush:
    flush_armed_ = false;
    break;
  case timer::prompt_flush:
    prompt_flush_armed_ = false;
    break;
  case timer::retry:
    retry_armed_ = false;
    break;
  }
  pump();
}

} // namespace coppice
