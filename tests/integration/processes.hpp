#pragma once

#include <sys/types.h>

#include <cstddef>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

/// What /proc says of the processes of a daemon, for tests that look from outside.
namespace coppice::test {

std::filesystem::path proc(pid_t pid);

/// Empty where there is none.
std::string text_of(const std::filesystem::path& file);

/// The value of a line of /proc/PID/status, without blanks around it.
std::string status_of_process(pid_t pid, const std::string& name);

unsigned long uid_of(pid_t pid);

/// The names in a folder, sorted.
std::vector<std::string> entries_of(const std::filesystem::path& folder);

/// What the open descriptors of a process lead to, by their numbers. A process that ends meanwhile
/// has none.
std::map<int, std::string> descriptors_of(pid_t pid);

/// The arguments of a process; its environment is written the same way.
std::vector<std::string> arguments_of(pid_t pid);

/// QEMU's processes below a daemon, each with its guard.
std::map<pid_t, pid_t> qemus_of(pid_t daemon);

/// Whether a QEMU was started to be restored from a template.
bool is_restored(pid_t qemu);

/// 0: the daemon has none.
pid_t launcher_of(pid_t daemon);

bool is_alive(pid_t pid);

// -- of a log
// --------------------------------------------------------------------------------------

std::vector<std::string> lines_of(const std::string& text);

std::size_t count_of(const std::string& text, const std::string& part);

} // namespace coppice::test
