#include "actors/fair_queue.hpp"

#include <algorithm>
#include <utility>

namespace coppice {

namespace {

bool fits(const fair_queue::demand& needs, const fair_queue::capacity& used,
          const fair_queue::capacity& total) {
  return used.running < total.running && used.cpus + needs.cpus <= total.cpus &&
         used.memory_mib + needs.memory_mib <= total.memory_mib;
}

void take(fair_queue::capacity& used, const fair_queue::demand& needs) {
  ++used.running;
  used.cpus += needs.cpus;
  used.memory_mib += needs.memory_mib;
}

void give(fair_queue::capacity& used, const fair_queue::demand& needs) {
  --used.running;
  used.cpus -= needs.cpus;
  used.memory_mib -= needs.memory_mib;
}

} // namespace

// -- capacity ------------------------------------------------------------------------------------

bool fair_queue::can_ever_run(const demand& needs) const {
  return !total_ || fits(needs, {}, *total_);
}

bool fair_queue::fits_now(const demand& needs) const {
  return total_ && fits(needs, running_, *total_);
}

std::vector<std::pair<uuid, fair_queue::demand>> fair_queue::set_capacity(const capacity& total) {
  for (auto& [name, p] : projects_) {
    leave_lane(p);
  }
  total_ = total;
  for (auto& [name, p] : projects_) {
    enter_lane(p); // shares are of the new total
  }
  std::vector<std::pair<uuid, demand>> never;
  for (const auto& [id, e] : entries_) {
    if (!e.is_running && !can_ever_run(e.needs)) {
      never.emplace_back(id, e.needs);
    }
  }
  for (const auto& [id, needs] : never) {
    remove(id);
  }
  return never;
}

std::uint64_t fair_queue::share_of(const capacity& used) const {
  if (!total_) {
    return 0;
  }
  // In millionths; whole numbers, so that equal shares are equal.
  constexpr std::uint64_t whole = 1'000'000;
  return std::max(total_->cpus == 0 ? 0 : used.cpus * whole / total_->cpus,
                  total_->memory_mib == 0 ? 0 : used.memory_mib * whole / total_->memory_mib);
}

// -- projects ------------------------------------------------------------------------------------

void fair_queue::leave_lane(project& p) {
  if (p.waiting.empty()) {
    return;
  }
  auto at = lanes_.find(p.waiting.begin()->second->needs);
  at->second.erase(p.next);
  if (at->second.empty()) {
    lanes_.erase(at);
  }
}

void fair_queue::enter_lane(project& p) {
  if (p.waiting.empty()) {
    return;
  }
  p.next.share = share_of(p.used);
  auto& home = lanes_.try_emplace(p.waiting.begin()->second->needs, counted_less<turn>{&steps_})
                   .first->second;
  home.emplace(p.next, &p);
}

void fair_queue::forget_if_idle(project& p) {
  if (p.waiting.empty() && p.used.running == 0) {
    projects_.erase(projects_.find(p.name));
  }
}

// -- what comes and goes -------------------------------------------------------------------------

bool fair_queue::add(const request& wanted) {
  auto [known, is_new] = entries_.try_emplace(wanted.id);
  if (!is_new) {
    return false;
  }
  auto& p = projects_.try_emplace(wanted.project, wanted.project, &steps_).first->second;
  const auto arrival = ++arrivals_;
  auto& e = known->second;
  e.id = wanted.id;
  e.owner = &p;
  e.needs = wanted.needs;
  e.place = {p.grants - wanted.priority * grants_per_level, arrival};
  leave_lane(p);
  if (p.waiting.empty()) {
    // It joins behind all that wait and before the one that was served last: those who were away
    // are owed nothing, and those who come back at once gain nothing.
    p.next.last = std::max(p.next.last, 2 * grants_);
    p.next.arrival = arrival;
  }
  p.waiting.insert({e.place, &e});
  enter_lane(p);
  ++waiting_count_;
  return true;
}

std::optional<uuid> fair_queue::grant() {
  const std::pair<const turn, project*>* first = nullptr;
  const std::pair<const turn, project*>* next = nullptr;
  for (const auto& [needs, projects] : lanes_) {
    ++steps_;
    const auto& candidate = *projects.begin();
    if (!first || candidate.first < first->first) {
      first = &candidate;
    }
    if (fits_now(needs) && (!next || candidate.first < next->first)) {
      next = &candidate;
    }
  }
  if (!next) {
    return std::nullopt;
  }
  if (next == first) {
    passes_ = 0;
  } else if (passes_ == passes_max) {
    return std::nullopt; // what ends now makes room for the first one
  } else {
    ++passes_;
  }
  auto& chosen = *next->second->waiting.begin()->second;
  start(chosen);
  return chosen.id;
}

void fair_queue::start(entry& e) {
  auto& p = *e.owner;
  leave_lane(p);
  p.waiting.erase(e.place);
  --waiting_count_;
  e.is_running = true;
  take(running_, e.needs);
  take(p.used, e.needs);
  ++p.grants;
  p.next.last = 2 * ++grants_ + 1; // odd: behind those who begin to wait before the next grant
  enter_lane(p);
}

bool fair_queue::remove(const uuid& id) {
  auto found = entries_.find(id);
  if (found == entries_.end()) {
    return false;
  }
  auto& e = found->second;
  auto& p = *e.owner;
  leave_lane(p);
  if (e.is_running) {
    give(running_, e.needs);
    give(p.used, e.needs);
  } else {
    p.waiting.erase(e.place);
    --waiting_count_;
  }
  enter_lane(p);
  entries_.erase(found);
  forget_if_idle(p);
  return true;
}

std::optional<std::size_t> fair_queue::position(const uuid& id) const {
  auto found = entries_.find(id);
  if (found == entries_.end() || found->second.is_running) {
    return std::nullopt;
  }
  return found->second.owner->waiting.order_of_key(found->second.place) + 1;
}

} // namespace coppice
