#include "actors/process_table.hpp"

#include "actors/error.hpp"
#include "actors/run_frames.hpp"
#include "protocol/limits.hpp"

#include <iterator>
#include <utility>

namespace coppice {

void process_table::begin(std::uint64_t kept_bytes, std::uint64_t stdin_bytes, bool closes_stdin) {
  processes_.clear();
  last_spid_ = main_process;
  auto& main = processes_[main_process];
  main.out = output_meter{kept_bytes};
  main.err = output_meter{kept_bytes};
  main.input.give(stdin_bytes, closes_stdin);
}

run_process* process_table::find(std::uint32_t spid) {
  auto found = processes_.find(spid);
  return found == processes_.end() ? nullptr : &found->second;
}

caf::expected<run_process*> process_table::running(std::uint32_t spid) {
  auto* process = find(spid);
  if (process && process->runs) {
    return process;
  }
  if (process || spid == 0 || spid > last_spid_) {
    return make_error(ec::not_found, "no such process of this operation");
  }
  return make_error(ec::conflict, "process " + std::to_string(spid) + " has ended");
}

caf::expected<std::uint32_t> process_table::add(const frame<proto::ProcessOrder>& order) {
  if (last_spid_ >= spid_max) {
    return make_error(ec::conflict, "this operation has had " + std::to_string(spid_max) +
                                        " processes, more are not to be had in one operation; "
                                        "nothing was started");
  }
  if (processes_.size() > beside_max) {
    return make_error(ec::busy, std::to_string(beside_max) +
                                    " processes run beside the main one, which is the most; "
                                    "nothing was started, try again when one has ended");
  }
  auto view = order.view();
  auto exec = view->getExec();
  run_process process;
  if (auto refused = refusal_of_input(process.input, exec.getStdin().size())) {
    return std::move(*refused);
  }
  auto keep = kept_bytes_max(exec.getProcess());
  process.out = output_meter{keep};
  process.err = output_meter{keep};
  process.input.give(exec.getStdin().size(), exec.getStdinClose());
  process.order = order;
  processes_.emplace(++last_spid_, std::move(process));
  return last_spid_;
}

std::optional<caf::error> process_table::refusal_of_input(const process_input& input,
                                                          std::uint64_t bytes) const {
  if (bytes > limits::stdin_bytes_max) {
    return make_error(ec::too_large, "standard input of more than " +
                                         std::to_string(limits::stdin_bytes_max) +
                                         " bytes at once; nothing was done");
  }
  if (input.held_bytes() + bytes > limits::stdin_bytes_max) {
    return make_error(ec::busy, "the process has not read " + std::to_string(input.held_bytes()) +
                                    " bytes of its standard input yet; nothing was done, try "
                                    "again when it has");
  }
  std::uint64_t held = 0;
  for (const auto& [spid, process] : processes_) {
    held += process.input.held_bytes();
  }
  if (held + bytes > held_bytes_max) {
    return make_error(ec::busy, "the processes of this operation have not read " +
                                    std::to_string(held) +
                                    " bytes of their standard inputs yet; nothing was done, try "
                                    "again when they have");
  }
  return std::nullopt;
}

void process_table::fail_waiting(const caf::error& why) {
  for (auto at = processes_.begin(); at != processes_.end();) {
    auto& asked = at->second.asked;
    const bool waits = asked.has_value();
    if (waits) {
      asked->deliver(why);
    }
    at = waits ? processes_.erase(at) : std::next(at);
  }
}

} // namespace coppice
