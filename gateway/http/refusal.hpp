#pragma once

#include "actors/error.hpp"

#include <boost/system/result.hpp>

#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

/// Why a request is not done: an HTTP status and a text for people. The one place where the
/// system's error codes become statuses.
namespace coppice::gateway {

struct refusal {
  // Constructors, so that an answer<bool> or answer<int> cannot be mistaken for one.
  refusal() = default;
  refusal(unsigned code, std::string why) : status{code}, text{std::move(why)} {}

  unsigned status = 500;
  std::string text;
};

[[noreturn]] inline void throw_exception_from_error(const refusal& r,
                                                    const boost::source_location&) {
  throw std::logic_error("unchecked refusal: " + r.text);
}

template <class T>
using answer = boost::system::result<T, refusal>;

/// The status of a code.
unsigned status_of(ec code);

/// An actor's error as a refusal. A request that nobody answered in time is 503.
refusal refuse(const caf::error& error);

inline refusal bad_request(std::string text) {
  return {400, std::move(text)};
}

inline refusal not_found(std::string text) {
  return {404, std::move(text)};
}

/// The standard phrase of a status.
std::string_view reason_phrase(unsigned status);

} // namespace coppice::gateway
