#pragma once

#include "actors/error.hpp"
#include "actors/type_ids.hpp"
#include "protocol/result.hpp"

#include <caf/result.hpp>

#include <chrono>
#include <exception>
#include <utility>

/// Small things that every actor does: turning component failures into actor errors, editing a
/// record, reading the wall clock.
namespace coppice {

/// Translates a failure of the storage or vmm component; see error.hpp.
caf::error to_error(const failure& f);

/// The answer to a request from a component's result.
template <class T>
caf::result<frame<T>> answer(result<frame<T>> r) {
  if (r.has_error()) {
    return to_error(r.error());
  }
  return std::move(*r);
}

/// The Done answer from a component's result.
inline caf::result<frame<proto::Done>> answer(const result<void>& r) {
  if (r.has_error()) {
    return to_error(r.error());
  }
  return make_frame<proto::Done>();
}

/// A handler body that may meet kj or standard exceptions (a malformed record, no memory): the
/// asker gets an error and the actor lives.
template <class Body>
auto guarded(Body&& body) -> decltype(body()) {
  try {
    return body();
  } catch (const kj::Exception& e) {
    return make_error(ec::internal, std::string{"malformed message: "} + e.getDescription().cStr());
  } catch (const std::exception& e) {
    return make_error(ec::internal, e.what());
  }
}

/// A copy of `original` after `edit(builder)`; messages are immutable.
template <class T, class Edit>
frame<T> edited(const frame<T>& original, Edit&& edit) {
  auto view = original.view();
  capnp::MallocMessageBuilder message{static_cast<capnp::uint>(original.words().size() + 64)};
  message.setRoot(*view);
  edit(message.getRoot<T>());
  return frame<T>{message};
}

/// Wall clock, for records and events only; deadlines use the actor system's steady clock.
inline std::int64_t unix_now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

/// Microseconds between two points of the steady clock, never negative.
template <class TimePoint>
std::uint64_t elapsed_us(TimePoint from, TimePoint to) {
  auto us = std::chrono::duration_cast<std::chrono::microseconds>(to - from).count();
  return us < 0 ? 0 : static_cast<std::uint64_t>(us);
}

} // namespace coppice
