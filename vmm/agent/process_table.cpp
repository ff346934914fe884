#include "vmm/agent/process_table.hpp"

#include <algorithm>

namespace coppice::agent {

process_table::process_table(port& host, std::uint64_t run, oom_counter oom)
    : host_{host}, run_{run}, oom_{std::move(oom)} {
  processes_.try_emplace(main_spid, host_, process_name{run_, main_spid});
}

running_process* process_table::find(std::uint32_t spid) {
  auto found = processes_.find(spid);
  return found == processes_.end() ? nullptr : &found->second;
}

result<running_process*> process_table::add(std::uint32_t spid) {
  if (spid <= last_spid_) {
    return errno_failure(EEXIST, "process " + std::to_string(spid));
  }
  last_spid_ = spid;
  if (processes_.size() >= alive_max) {
    return errno_failure(EAGAIN, "more than " + std::to_string(alive_max) + " processes");
  }
  return &processes_.try_emplace(spid, host_, process_name{run_, spid}).first->second;
}

void process_table::remove(std::uint32_t spid) {
  processes_.erase(spid);
}

void process_table::take_reaped(pid_t pid, int status, const rusage& usage) {
  for (auto& [spid, process] : processes_) {
    if (process.runs() && process.pid() == pid) {
      const bool is_oom_kill = process.may_be_oom_kill(status) && oom_.take_one();
      return process.take_end(status, usage, is_oom_kill);
    }
  }
}

void process_table::add_interests(std::vector<pollfd>& to) const {
  for (const auto& [spid, process] : processes_) {
    process.add_interests(to);
  }
  for (const auto& stream : leftovers_) {
    to.push_back({stream.fd(), POLLIN, 0});
  }
}

void process_table::pump() {
  auto first = processes_.lower_bound(next_turn_);
  auto turn = first == processes_.end() ? processes_.begin() : first;
  for (auto left = processes_.size(); left > 0; --left) {
    auto& process = turn->second;
    process.pump(false);
    const bool is_over = process.spid() != main_spid && process.is_drained();
    if (is_over) {
      process.say_exited();
      process.hand_over(leftovers_);
    }
    turn = is_over ? processes_.erase(turn) : std::next(turn);
    turn = turn == processes_.end() ? processes_.begin() : turn;
  }
  next_turn_ = std::next(turn) == processes_.end() ? main_spid : std::next(turn)->first;
  pump_leftovers();
}

void process_table::pump_leftovers() {
  for (auto& stream : leftovers_) {
    stream.pump(false, [](auto) {
      // nothing is kept
    });
  }
  std::erase_if(leftovers_, [](const auto& stream) { return !stream.is_open(); });
  if (leftovers_.size() > leftovers_max) {
    leftovers_.erase(leftovers_.begin(), leftovers_.end() - leftovers_max);
  }
}

void process_table::expire() {
  for (auto& [spid, process] : processes_) {
    process.expire();
  }
}

void process_table::expect_kills() {
  for (auto& [spid, process] : processes_) {
    process.expect_kill();
  }
}

void process_table::end_all() {
  leftovers_.clear();
  for (auto& [spid, process] : processes_) {
    process.end_with_all();
  }
}

bool process_table::drain() {
  // From the highest number down: the main process is the last.
  while (!processes_.empty()) {
    auto last = std::prev(processes_.end());
    last->second.pump(true);
    if (!last->second.is_drained()) {
      return false; // the host has to catch up
    }
    if (last->second.pid() > 0) {
      last->second.say_exited();
    }
    processes_.erase(last);
  }
  return true;
}

} // namespace coppice::agent
