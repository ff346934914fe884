#include "actors/pool_plan.hpp"

#include <algorithm>

namespace coppice {

void pool_plan::asked(const class_key& which, time_point now) {
  asked_.emplace_back(now, which);
  // More than could ever wait tell nothing more.
  while (asked_.size() > limits_.ceiling) {
    asked_.pop_front();
  }
}

void pool_plan::failed(time_point now) {
  const auto pause =
      std::min<std::chrono::seconds>(pause_first * (1 << std::min(failures_, 6u)), pause_max);
  ++failures_;
  not_before_ = now + pause;
}

std::map<pool_plan::class_key, std::size_t>
pool_plan::wanted(time_point now, std::uint64_t free_bytes, std::uint64_t room_bytes) {
  std::erase_if(asked_, [&](const auto& each) { return each.first + window < now; });
  std::map<class_key, std::size_t> out;
  if (free_bytes < limits_.memory_kept_free_bytes) {
    return out;
  }
  for (const auto& [when, which] : asked_) {
    ++out[which];
  }
  auto left = std::min(limits_.ceiling, most_in(room_bytes));
  if (const auto least = std::min(limits_.floor, left); least > 0) {
    auto& usual = out[usual_];
    usual = std::max(usual, least);
  }
  if (auto usual = out.find(usual_); usual != out.end()) {
    usual->second = std::min(usual->second, left);
    left -= usual->second;
  }
  for (auto& [which, count] : out) {
    if (which != usual_) {
      count = std::min(count, left);
      left -= count;
    }
  }
  return out;
}

} // namespace coppice
