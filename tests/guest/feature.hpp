#pragma once

#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

/// What programs expect of a kernel, each with a way to find out by using it. The program
/// `features` runs inside guests; a check runs in a process of its own, so it may change what it
/// likes.
namespace features {

struct feature {
  std::string name;
  std::string (*check)(const std::string& what); ///< empty: it is there; otherwise why not
  std::string what;
};

inline std::string failed(const std::string& doing) {
  return doing + ": " + std::strerror(errno);
}

/// Empty if `is_true`.
inline std::string need(bool is_true, const std::string& doing) {
  return is_true ? std::string{} : failed(doing);
}

void add_system_calls(std::vector<feature>& to);
void add_files(std::vector<feature>& to);
void add_processes(std::vector<feature>& to);
void add_sockets(std::vector<feature>& to);
void add_packet_filters(std::vector<feature>& to);

} // namespace features
