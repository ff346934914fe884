#include "gateway/http/process_keys.hpp"

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <utility>

namespace coppice::gateway {

process_keys::turn::turn(turn&& other) noexcept
    : owner_{std::exchange(other.owner_, nullptr)}, project_{std::move(other.project_)},
      name_{std::move(other.name_)}, earlier_{other.earlier_} {}

process_keys::turn::~turn() {
  if (owner_) {
    owner_->forget(project_, name_);
  }
}

void process_keys::turn::done(std::uint32_t spid) {
  if (auto* owner = std::exchange(owner_, nullptr)) {
    owner->settle(project_, name_, progress::done, spid);
  }
}

void process_keys::turn::left_open() {
  if (auto* owner = std::exchange(owner_, nullptr)) {
    owner->settle(project_, name_, progress::open, 0);
  }
}

asio::awaitable<answer<process_keys::turn>> process_keys::take(std::string project,
                                                               std::string name, std::string digest,
                                                               clock::time_point now) {
  turn mine;
  if (name.empty()) {
    co_return std::move(mine);
  }
  auto executor = co_await asio::this_coro::executor;
  for (;;) {
    auto& of = projects_[project];
    forget_old(of, now);
    auto found = of.known.find(name);
    if (found == of.known.end()) {
      break;
    }
    auto& known = found->second;
    if (known.digest != digest) {
      co_return refusal{409, std::string{key_is_taken}};
    }
    if (known.how_far == progress::done) {
      mine.earlier_ = known.spid;
      co_return std::move(mine);
    }
    if (known.how_far == progress::open) {
      co_return refusal{409, "nobody knows whether the earlier request with this Idempotency-Key "
                             "was carried out: it was not answered in time. Look at the "
                             "operation's subprocesses, and take another key to do it again"};
    }
    auto end = known.end;
    boost::system::error_code error;
    co_await end->async_wait(asio::redirect_error(asio::use_awaitable, error));
    if (!error) {
      co_return refusal{503, "the same request is still under way; try again"};
    }
  }
  auto& of = projects_[project];
  if (of.known.size() >= keys_max_) {
    co_return refusal{429, "the project has sent " + std::to_string(keys_max_) +
                               " Idempotency-Keys to processes within a day, which is as many as "
                               "are remembered; nothing was done, send the request without one "
                               "or later"};
  }
  const auto number = ++last_number_;
  auto end = std::make_shared<asio::steady_timer>(executor, wait_max);
  of.known[name] = {std::move(digest), number, now, progress::under_way, 0, std::move(end)};
  of.by_age[number] = name;
  mine.owner_ = this;
  mine.project_ = std::move(project);
  mine.name_ = std::move(name);
  co_return std::move(mine);
}

bool process_keys::is_for_another(const std::string& project, const std::string& name,
                                  const std::string& digest, clock::time_point now) const {
  auto of = projects_.find(project);
  if (of == projects_.end()) {
    return false;
  }
  auto found = of->second.known.find(name);
  return found != of->second.known.end() && found->second.at + age_max > now &&
         found->second.digest != digest;
}

void process_keys::forget_old(names& of, clock::time_point now) {
  while (!of.by_age.empty()) {
    auto oldest = of.by_age.begin();
    auto found = of.known.find(oldest->second);
    if (found->second.at + age_max > now || found->second.how_far == progress::under_way) {
      return;
    }
    of.known.erase(found);
    of.by_age.erase(oldest);
  }
}

void process_keys::settle(const std::string& project, const std::string& name, progress how,
                          std::uint32_t spid) {
  auto& known = projects_[project].known.at(name);
  known.how_far = how;
  known.spid = spid;
  std::exchange(known.end, nullptr)->cancel();
}

void process_keys::forget(const std::string& project, const std::string& name) {
  auto& of = projects_[project];
  auto found = of.known.find(name);
  auto end = std::move(found->second.end);
  of.by_age.erase(found->second.number);
  of.known.erase(found);
  end->cancel();
}

} // namespace coppice::gateway
