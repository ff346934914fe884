#pragma once

#include <boost/system/result.hpp>

#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

/// Expected failures are values: below the actors every function that can fail for a reason outside
/// the program returns `result<T>`. The code is an enumerator of the component's own `ec`, the text
/// says what, where and, if the user can do something, what to do.
namespace coppice {

struct failure {
  std::error_code code;
  std::string text;
};

/// Only reached by calling `value()` on a failure, which is our bug.
[[noreturn]] inline void throw_exception_from_error(const failure& f,
                                                    const boost::source_location&) {
  throw std::logic_error("unchecked failure: " + f.text);
}

template <class T>
using result = boost::system::result<T, failure>;

template <class Ec>
failure fail(Ec code, std::string text) {
  return failure{make_error_code(code), std::move(text)};
}

} // namespace coppice
