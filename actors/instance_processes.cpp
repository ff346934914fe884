#include "actors/instance.hpp"

#include "actors/requests.hpp"
#include "actors/run_frames.hpp"

#include <cerrno>
#include <utility>

// What clients want of a run's processes, and what the guest says of those beside the main one.

namespace coppice {

caf::result<frame<proto::ProcessAnswer>>
instance_state::process_order(const frame<proto::ProcessOrder>& order) {
  if (stage_ < instance_stage::executing) {
    return make_error(ec::too_early,
                      "the operation's command does not run yet; nothing was done, try again");
  }
  if (!at(instance_stage::executing)) {
    return make_error(ec::conflict, "the operation's command has ended");
  }
  auto view = order.view();
  switch (view->which()) {
  case proto::ProcessOrder::EXEC:
    return exec(order);
  case proto::ProcessOrder::SIGNAL:
    return signal(view->getSpid(), view->getSignal());
  case proto::ProcessOrder::STDIN:
    return give_input(order);
  }
  return make_error(ec::invalid, "an order for a process that this server does not know");
}

caf::result<frame<proto::ProcessAnswer>>
instance_state::exec(const frame<proto::ProcessOrder>& order) {
  if (orders_under_way_ >= orders_max) {
    return too_many_orders();
  }
  if (!stdin_.has_room_for(order)) {
    return too_much_input();
  }
  auto added = processes_.add(order);
  if (!added) {
    return std::move(added.error());
  }
  const auto spid = *added;
  auto promise = self_->make_response_promise<frame<proto::ProcessAnswer>>();
  processes_.find(spid)->asked = promise;
  auto view = order.view();
  auto asked = view->getExec();
  order_guest(exec_order(run_, spid, asked.getProcess()), [this, spid](const caf::error& why) {
    if (why) {
      exec_refused(spid, why);
    }
  });
  stdin_.add(spid, order, asked.getStdin(), asked.getStdinClose());
  pump_stdin();
  return promise;
}

void instance_state::exec_refused(std::uint32_t spid, const caf::error& why) {
  auto* process = processes_.find(spid);
  if (process && process->asked) {
    process->asked->deliver(why);
    stdin_.drop(spid);
    processes_.remove(spid);
  }
}

caf::result<frame<proto::ProcessAnswer>> instance_state::signal(std::uint32_t spid, int number) {
  if (auto process = processes_.running(spid); !process) {
    return std::move(process.error());
  }
  if (orders_under_way_ >= orders_max) {
    return too_many_orders();
  }
  auto promise = self_->make_response_promise<frame<proto::ProcessAnswer>>();
  auto message = make_frame<proto::ToGuest>([&](auto m) {
    m.setRun(run_);
    m.initSignal().setSpid(spid);
    m.getSignal().setNumber(number);
  });
  order_guest(message, [promise, spid](const caf::error& why) mutable {
    if (why) {
      promise.deliver(why);
    } else {
      promise.deliver(process_answer(spid));
    }
  });
  return promise;
}

caf::result<frame<proto::ProcessAnswer>>
instance_state::give_input(const frame<proto::ProcessOrder>& order) {
  auto view = order.view();
  const auto spid = view->getSpid();
  auto process = processes_.running(spid);
  if (!process) {
    return std::move(process.error());
  }
  auto& input = (*process)->input;
  auto data = view->getStdin().getData();
  if (input.is_closed()) {
    return make_error(ec::conflict, "the standard input of process " + std::to_string(spid) +
                                        " is closed; nothing was written");
  }
  if (auto refused = processes_.refusal_of_input(input, data.size())) {
    return std::move(*refused);
  }
  if (!stdin_.has_room_for(order)) {
    return too_much_input();
  }
  input.give(data.size(), view->getStdin().getClose());
  report_stdin(spid, input, data);
  stdin_.add(spid, order, data, view->getStdin().getClose());
  pump_stdin();
  return process_answer(spid);
}

caf::error instance_state::too_many_orders() {
  return make_error(ec::busy, "the guest has not taken " + std::to_string(orders_max) +
                                  " orders yet; nothing was done, try again");
}

caf::error instance_state::too_much_input() {
  return make_error(ec::busy, "too much standard input waits for the guest; nothing was done, try "
                              "again");
}

void instance_state::order_guest(const frame<proto::ToGuest>& message,
                                 std::function<void(const caf::error&)> then) {
  ++orders_under_way_;
  self_->request(vm_, caf::infinite, message)
      .then(
          [this, then](const frame<proto::Done>&) {
            --orders_under_way_;
            then({});
          },
          [this, then](const caf::error& e) {
            --orders_under_way_;
            // It waited until there was nobody left to take it: that is no fault of the VM.
            then(at(instance_stage::executing)
                     ? e
                     : make_error(ec::conflict, "the operation's command has ended"));
          });
}

void instance_state::pump_stdin() {
  if (auto piece = stdin_.next(run_)) {
    send_to_guest(*piece, [this]() {
      stdin_.sent();
      pump_stdin();
    });
  }
}

void instance_state::report_stdin(std::uint32_t spid, process_input& input,
                                  capnp::Data::Reader data) {
  const auto kept = input.record(data.size());
  const auto is_cut = input.begins_to_leave_out(data.size(), kept);
  if (kept > 0 || is_cut) {
    self_->send(operation_, stdin_report(spid, data.slice(0, kept), is_cut));
  }
}

void instance_state::process_started(proto::FromGuest::Started::Reader message) {
  const auto spid = message.getSpid();
  auto* process = processes_.find(spid);
  if (!at(instance_stage::executing) || !process || process->runs) {
    return;
  }
  process->runs = true;
  auto order = std::exchange(process->order, {});
  auto view = order.view();
  auto asked = view->getExec();
  auto record = record_.view();
  self_->send(operation_, spawn_report(asked.getProcess(), request_of(*record), message));
  report_stdin(spid, process->input, asked.getStdin());
  std::exchange(process->asked, std::nullopt)->deliver(process_answer(spid));
}

void instance_state::process_exited(proto::FromGuest::Exited::Reader message) {
  const auto spid = message.getSpid();
  auto* process = processes_.find(spid);
  if (!at(instance_stage::executing) || !process || !process->runs) {
    return;
  }
  auto result = run_result(message.getResult(), process->out, process->err);
  auto view = result.view();
  self_->send(operation_, exit_report(spid, *view));
  stdin_.drop(spid);
  processes_.remove(spid);
}

void instance_state::exec_failed(proto::FromGuest::ExecFailed::Reader message) {
  const auto number = message.getErrorNumber();
  const bool is_full = number == EAGAIN || number == ENOMEM || number == EMFILE;
  exec_refused(message.getSpid(),
               make_error(is_full ? ec::busy : ec::vm,
                          std::string{"the guest could not start the process: "} +
                              message.getError().cStr() +
                              (is_full ? "; nothing was started, try again" : "")));
}

void instance_state::stdin_taken(proto::FromGuest::StdinTaken::Reader message) {
  auto* process = processes_.find(message.getSpid());
  // Before it runs nothing reads, and we hold its whole order.
  if (process && process->runs) {
    process->input.taken(message.getTotalBytes(), message.getClosed());
    if (message.getClosed()) {
      stdin_.drop(message.getSpid());
    }
  }
}

} // namespace coppice
