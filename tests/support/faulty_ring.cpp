#include "tests/support/faulty_ring.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <stdexcept>
#include <utility>

namespace coppice::storage::test {

namespace {

std::string name_of(const io_request& request) {
  if (request.path != nullptr) {
    return request.path;
  }
  std::array<char, 4096> target{};
  auto link = "/proc/self/fd/" + std::to_string(request.fd);
  auto length = ::readlink(link.c_str(), target.data(), target.size());
  return {target.data(), static_cast<std::size_t>(std::max<ssize_t>(length, 0))};
}

bool moves_bytes(const io_request& request) {
  switch (request.what) {
  case io_request::call::read:
  case io_request::call::write:
  case io_request::call::receive:
  case io_request::call::send:
    return true;
  default:
    return false;
  }
}

bool has_done_all(const io_request& request) {
  return request.result >= 0 &&
         (!moves_bytes(request) || static_cast<std::uint64_t>(request.result) == request.length);
}

} // namespace

/// What the wrapped ring gets in place of a request.
struct faulty_ring::flight : io_request {
  flight(const io_request& copied, io_request& of, faulty_ring& by)
      : io_request{copied}, original{&of}, owner{&by} {}

  io_request* original;
  faulty_ring* owner;
  std::unique_ptr<flight> next; ///< linked to it
  bool is_failed = false;       ///< `result` says how
  bool is_held = false;
};

faulty_ring::faulty_ring(std::unique_ptr<ring> wrapped) : wrapped_{std::move(wrapped)} {
  // nop
}

faulty_ring::~faulty_ring() = default;

void faulty_ring::fail(predicate which, std::size_t nth, int error_number, std::size_t times) {
  faults_.push_back({fault::kind::fail, std::move(which), nth - 1, times, error_number});
}

void faulty_ring::cut(predicate which, std::size_t nth, std::uint64_t length_bytes,
                      std::size_t times) {
  faults_.push_back({fault::kind::cut, std::move(which), nth - 1, times, 0, length_bytes});
}

void faulty_ring::hold(predicate which, std::size_t nth, std::size_t times) {
  faults_.push_back({fault::kind::hold, std::move(which), nth - 1, times});
}

void faulty_ring::release() {
  for (auto& one : std::exchange(held_, {})) {
    ended_.push_back(std::move(one));
  }
}

void faulty_ring::turn_until_held() {
  while (pending_ > held_.size()) {
    turn();
  }
}

void faulty_ring::submit(io_request& request) {
  begin(take(request, false));
}

void faulty_ring::submit_linked(io_request& first, io_request& second) {
  auto leading = take(first, false);
  leading->next = take(second, true);
  begin(std::move(leading));
}

std::unique_ptr<faulty_ring::flight> faulty_ring::take(io_request& request, bool is_linked) {
  ++pending_;
  log_.push_back(
      {request.what, name_of(request), request.fd, request.offset, request.length, is_linked});
  auto out = std::make_unique<flight>(request, request, *this);
  out->done = [](io_request& ended) {
    auto& self = static_cast<flight&>(ended);
    self.owner->end(std::unique_ptr<flight>{&self});
  };
  if (const auto* due = next_fault(log_.back())) {
    out->is_failed = due->what == fault::kind::fail;
    out->is_held = due->what == fault::kind::hold;
    out->result = -due->error_number;
    if (due->what == fault::kind::cut) {
      out->length = std::min(out->length, due->length_bytes);
      out->is_failed = out->length == 0;
    }
  }
  return out;
}

const faulty_ring::fault* faulty_ring::next_fault(const entry& of) {
  const fault* out = nullptr;
  for (auto& one : faults_) {
    if (one.times == 0 || !one.which(of)) {
      continue;
    }
    if (one.skip > 0) {
      --one.skip; // each counts all that it matches, whichever decides
    } else if (out == nullptr) {
      out = &one;
      one.times -= one.times == for_ever ? 0 : 1;
    }
  }
  return out;
}

void faulty_ring::begin(std::unique_ptr<flight> next) {
  if (next->is_failed) {
    end(std::move(next));
  } else {
    wrapped_->submit(*next.release()); // back in `done`
  }
}

void faulty_ring::end(std::unique_ptr<flight> which) {
  which->original->result = which->result;
  auto next = std::move(which->next);
  auto goes_on = has_done_all(*which->original);
  (which->is_held ? held_ : ended_).push_back(std::move(which));
  if (next && goes_on) {
    begin(std::move(next));
  } else if (next) {
    next->is_failed = true;
    next->is_held = false;
    next->result = -ECANCELED;
    end(std::move(next));
  }
}

void faulty_ring::turn() {
  if (ended_.empty()) {
    if (!held_.empty() && held_.size() == pending_) {
      throw std::logic_error{"nothing but held requests is left: release() them"};
    }
    wrapped_->turn();
  }
  for (auto& one : std::exchange(ended_, {})) {
    --pending_;
    one->original->done(*one->original);
  }
}

faulty_ring::predicate any() {
  return [](const faulty_ring::entry&) {
    return true;
  };
}

faulty_ring::predicate calls(io_request::call what, std::string name_part) {
  return [what, name_part = std::move(name_part)](const faulty_ring::entry& one) {
    return one.what == what && one.name.find(name_part) != std::string::npos;
  };
}

} // namespace coppice::storage::test
