#include "actors/operation.hpp"

#include "actors/requests.hpp"

// The processes of a running operation: orders for them go to its work, what becomes of them goes
// to its event log.

namespace coppice {

caf::result<frame<proto::ProcessAnswer>>
operation_state::process_order(const frame<proto::ProcessOrder>& order) {
  if (!record_.view()->getRequest().isInstance()) {
    return make_error(ec::conflict, "an import has no processes");
  }
  if (stage_ != stage::live || !work_) {
    return make_error(ec::conflict,
                      "the operation has already ended as " + std::string{status_name(status_)});
  }
  if (status_ == proto::OperationStatus::PENDING) {
    return make_error(ec::too_early, "the operation waits for its turn; nothing was done");
  }
  return self_->delegate(work_, order);
}

void operation_state::process_report(const frame<proto::ProcessReport>& message) {
  if (stage_ != stage::live || status_ != proto::OperationStatus::EXECUTING) {
    return;
  }
  auto view = message.view();
  const auto spid = view->getSpid();
  const auto now = unix_now_ns();
  switch (view->which()) {
  case proto::ProcessReport::SPAWN:
    log_.add(spid, now, [&](auto e) { e.setSpawn(view->getSpawn()); });
    break;
  case proto::ProcessReport::STDIN: {
    const bool was_full = log_.is_full();
    if (!log_.add_sized(spid, now, view->getStdin().getData().size(),
                        [&](auto e) { e.setStdin(view->getStdin()); }) &&
        !was_full) {
      note_full_log();
    }
    break;
  }
  case proto::ProcessReport::EXIT: {
    auto result = copy_frame<proto::RunResult>(view->getExit());
    result = edited(result, [&](auto r) { tally_.note(spid, r); });
    auto noted = result.view();
    add_exit(spid, now, *noted);
    tally_.forget(spid);
    break;
  }
  }
  write_soon();
}

void operation_state::add_exit(std::uint32_t spid, std::int64_t at_unix_ns,
                               proto::RunResult::Reader result) {
  log_.add(spid, at_unix_ns, [&](auto e) { e.setExit(result); });
  auto note_dropped = [&](bool is_stderr, proto::StreamSummary::Reader s) {
    if (s.getTotalBytes() > s.getKeptBytes()) {
      log_.add(spid, at_unix_ns, [&](auto e) {
        auto t = e.initTruncated();
        t.setIsStderr(is_stderr);
        t.setKeptBytes(s.getKeptBytes());
        t.setDroppedBytes(s.getTotalBytes() - s.getKeptBytes());
      });
    }
  };
  note_dropped(false, result.getStdout());
  note_dropped(true, result.getStderr());
}

void operation_state::write_soon() {
  if (log_.waiting_bytes() >= flush_bytes) {
    pump();
  } else {
    arm_flush();
  }
}

} // namespace coppice
