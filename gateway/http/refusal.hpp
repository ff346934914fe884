#pragma once

#include <boost/system/result.hpp>

#include <stdexcept>
#include <string>
#include <utility>

/// Why a request is not done: an HTTP status and a text for people. Plain, so that what parses
/// clients' bytes needs no actors.
namespace coppice::gateway {

struct refusal {
  // Constructors, so that an answer<bool> or answer<int> cannot be mistaken for one.
  refusal() = default;
  refusal(unsigned code, std::string why) : status{code}, text{std::move(why)} {}

  unsigned status = 500;
  std::string text;
  bool may_be_done = false; ///< nobody knows whether what was asked for was carried out
};

[[noreturn]] inline void throw_exception_from_error(const refusal& r,
                                                    const boost::source_location&) {
  throw std::logic_error("unchecked refusal: " + r.text);
}

template <class T>
using answer = boost::system::result<T, refusal>;

inline refusal bad_request(std::string text) {
  return {400, std::move(text)};
}

inline refusal not_found(std::string text) {
  return {404, std::move(text)};
}

} // namespace coppice::gateway
