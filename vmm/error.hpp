#pragma once

#include "protocol/result.hpp"

#include <system_error>

namespace coppice::vmm {

/// What can go wrong with a microVM or another child process.
enum class ec {
  none = 0,
  spawn,    ///< the process could not be started
  exited,   ///< the process ended when it should not have
  timeout,  ///< it did not answer before its deadline
  protocol, ///< the guest or QEMU said something that it must not say
  closed,   ///< the channel is gone
  busy,     ///< the channel's queue is full; nothing was queued
  missing,  ///< a file that is needed is not there: the text says how to get it
  refused,  ///< the order does not fit the state that the VM is in; nothing was done
  stale,    ///< a template of other ingredients, or a damaged one: build it anew
  io,       ///< a file could not be read or written
};

const std::error_category& vmm_category();

inline std::error_code make_error_code(ec code) {
  return {static_cast<int>(code), vmm_category()};
}

} // namespace coppice::vmm

template <>
struct std::is_error_code_enum<coppice::vmm::ec> : std::true_type {};
