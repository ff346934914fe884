#pragma once

#include <cstdint>

/// What child_process and the guard that it starts agree on: the arguments
/// `PROGRAM guard LIFELINE PATH ARGV…` and one report on the life-line at the end. A guard whose
/// pid is 1 leads a pid namespace.
namespace coppice::vmm {

inline constexpr const char* guard_command = "guard";

/// How the guarded program ended; sent once, when nothing of it is left but the guard itself.
struct guard_report {
  std::int32_t code;
  std::int32_t signal;
};

} // namespace coppice::vmm
