#pragma once

#include "protocol/result.hpp"

#include <system_error>

namespace coppice::storage {

/// What can go wrong in the store. The text of the failure names path, offset and errno.
enum class ec {
  none = 0,
  not_found,   ///< no such record, file or path
  wrong_type,  ///< a path inside an image is not of the kind asked for
  damaged,     ///< bytes on disk or in an image contradict themselves
  not_clean,   ///< the file system does not say that it was cleanly unmounted
  unsupported, ///< valid, but nothing that we ever write or import
  too_large,   ///< beyond a configured limit
  no_space,    ///< ENOSPC, EDQUOT, or the catalog's map is full
  io,          ///< any other error of the operating system
  in_use,      ///< another daemon has the state folder: the text names its pid
  conflict,    ///< the record is not in a state that allows this
  gone,        ///< it was there and was given up
  busy,        ///< as many as there may be; some go with time
};

const std::error_category& storage_category();

inline std::error_code make_error_code(ec code) {
  return {static_cast<int>(code), storage_category()};
}

/// Translates errno once: ENOENT, ENOSPC and EDQUOT have their own code, the rest is `io`.
failure io_failure(int error_number, std::string what);

} // namespace coppice::storage

template <>
struct std::is_error_code_enum<coppice::storage::ec> : std::true_type {};
