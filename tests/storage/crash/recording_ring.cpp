#include "tests/storage/crash/recording_ring.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <utility>

namespace coppice::storage::test::crash {

namespace {

constexpr auto unseen = static_cast<std::size_t>(-1);

bool has_done_all(const io_request& r) {
  auto moves = r.what == io_request::call::read || r.what == io_request::call::write ||
               r.what == io_request::call::receive || r.what == io_request::call::send;
  return r.result >= 0 && (!moves || static_cast<std::uint64_t>(r.result) == r.length);
}

/// What a request does to the folder; nothing for those that only look.
std::optional<step> step_of(const trace& into, const io_request& r) {
  step s;
  auto is_directory = false;
  switch (r.what) {
  case io_request::call::open:
    s.what = step::kind::make_file;
    if ((r.flags & O_CREAT) == 0 || ::access(r.path, F_OK) == 0 || !into.inside(r.path, s.path)) {
      return std::nullopt;
    }
    return s;
  case io_request::call::write: {
    s.what = step::kind::write;
    s.offset = r.offset;
    s.is_durable = (::fcntl(r.fd, F_GETFL) & O_DSYNC) != 0;
    const auto* bytes = static_cast<const std::byte*>(r.buffer);
    s.data.assign(bytes, bytes + r.length);
    break;
  }
  case io_request::call::sync_data:
  case io_request::call::sync:
    s.what = step::kind::sync_file;
    break;
  case io_request::call::allocate:
    s.what = step::kind::punch;
    s.offset = r.offset;
    s.length = r.length;
    break;
  case io_request::call::rename:
    s.what = step::kind::rename;
    return into.inside(r.path, s.path) && into.inside(r.path_to, s.path_to) ? std::optional{s}
                                                                            : std::nullopt;
  case io_request::call::remove:
    s.what = step::kind::remove;
    return into.inside(r.path, s.path) ? std::optional{s} : std::nullopt;
  default:
    return std::nullopt;
  }
  if (!into.inside(r.fd, s, is_directory)) {
    return std::nullopt;
  }
  if (is_directory) {
    s.what = step::kind::sync_directory;
  }
  return s;
}

} // namespace

/// What the wrapped ring gets in place of a request.
struct recording_ring::flight : io_request {
  flight(const io_request& copied, io_request& of, recording_ring& by)
      : io_request{copied}, original{&of}, owner{&by} {}

  io_request* original;
  recording_ring* owner;
  std::unique_ptr<flight> next; ///< linked to it
  std::optional<step> opening;  ///< told when it has succeeded, with the file that it made
  std::size_t number = unseen;
};

recording_ring::recording_ring(std::unique_ptr<ring> wrapped, trace& into)
    : wrapped_{std::move(wrapped)}, trace_{into} {}

recording_ring::~recording_ring() = default;

std::unique_ptr<recording_ring::flight> recording_ring::take(io_request& request) {
  ++pending_;
  auto out = std::make_unique<flight>(request, request, *this);
  out->done = [](io_request& ended) {
    auto& self = static_cast<flight&>(ended);
    self.owner->end(std::unique_ptr<flight>{&self});
  };
  return out;
}

void recording_ring::submit(io_request& request) {
  begin(take(request));
}

void recording_ring::submit_linked(io_request& first, io_request& second) {
  auto leading = take(first);
  leading->next = take(second);
  begin(std::move(leading));
}

void recording_ring::begin(std::unique_ptr<flight> next) {
  if (auto s = step_of(trace_, *next)) {
    if (next->what == io_request::call::open) {
      next->opening = std::move(s);
    } else {
      next->number = trace_.begin(std::move(*s));
    }
  }
  wrapped_->submit(*next.release()); // back in `done`
}

void recording_ring::end(std::unique_ptr<flight> which) {
  --pending_;
  which->original->result = which->result;
  if (which->opening && which->result >= 0) {
    auto is_directory = false;
    if (trace_.inside(static_cast<int>(which->result), *which->opening, is_directory)) {
      trace_.end(trace_.begin(std::move(*which->opening)), 0);
    }
  } else if (which->number != unseen) {
    trace_.end(which->number, which->result);
  }
  auto* original = which->original;
  auto next = std::move(which->next);
  if (next && has_done_all(*original)) {
    begin(std::move(next));
  } else if (next) {
    --pending_;
    next->original->result = -ECANCELED;
    original->done(*original);
    next->original->done(*next->original);
    return;
  }
  original->done(*original);
}

void recording_ring::turn() {
  wrapped_->turn();
}

} // namespace coppice::storage::test::crash
