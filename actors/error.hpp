#pragma once

#include "protocol/result.hpp"

#include <caf/error.hpp>

#include <cstdint>
#include <string>
#include <string_view>

/// What can go wrong between actors. Failures of the components below are translated into these
/// once, at the actor that owns the component; the gateway maps them to HTTP statuses once.
namespace coppice {

enum class ec : std::uint8_t {
  none = 0,
  invalid,      ///< the request cannot be meant; the text names the field
  not_found,    ///< no such image, tag, file, operation or path in this project
  conflict,     ///< the state of the target does not allow it
  gone,         ///< it existed, its content is not readable
  wrong_type,   ///< a path exists but is not of the kind asked for
  too_large,    ///< beyond a configured size
  busy,         ///< a limit on concurrency is reached; nothing was started
  unauthorised, ///< no such token
  damaged,      ///< an image contradicts itself
  cancelled,    ///< by request
  stopping,     ///< the server is shutting down
  unavailable,  ///< a helper process did not answer in time: trying again may help
  registry,     ///< an import failed for the registry's or the image's reasons
  storage,      ///< the store could not do it: text has path and errno
  vm,           ///< a virtual machine failed: text has its last console lines
  too_early,    ///< what it is about does not run yet; nothing was done, try again
  internal,     ///< our defect
};

std::string_view to_string(ec code);

/// An error with one text for people. `text_of` takes it out again.
caf::error make_error(ec code, std::string text);

/// The text that `make_error` put in, else a rendering of the error's code.
std::string text_of(const caf::error& error);

/// The code, `internal` for errors that are not ours (a dead actor, a time-out).
ec code_of(const caf::error& error);

} // namespace coppice
