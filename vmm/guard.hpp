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

struct guard_order {
  int lifeline = -1;
  bool leads_namespace = false;
  const char* path = nullptr;
  char* const* argv = nullptr;
  char* const* environment = nullptr;
  /// Called in the program's process just before it is executed; what it returns other than null
  /// is why that must not be.
  const char* (*prepare)(const void* context) = nullptr;
  const void* context = nullptr;
};

/// Runs the program and waits for its end or the life-line's. Returns the guard's exit status; all
/// else in the namespace ends when the guard then does.
int run_guard(const guard_order& order);

} // namespace coppice::vmm
