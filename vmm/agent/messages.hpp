#pragma once

#include "protocol/limits.hpp"
#include "vmm/agent/port.hpp"
#include "vmm/agent/process.hpp"
#include "vmm/agent/streams.hpp"

#include <chrono>
#include <cstdint>
#include <span>
#include <string_view>

#include <sys/resource.h>

/// What the agent says, one function a message (protocol/guest.capnp).
namespace coppice::agent {

/// The main process of a run; the others have larger numbers.
inline constexpr std::uint32_t main_spid = 1;

/// Which process of which run a message is about.
struct process_name {
  std::uint64_t run;
  std::uint32_t spid;
};

/// How a process ended, from wait4(2).
struct process_end {
  pid_t pid = -1;
  int status = 0;
  rusage usage{};
  bool is_timed_out = false;
  bool is_oom_kill = false; ///< for want of memory
  std::chrono::microseconds elapsed{0};
};

void send_ready(port& to);
void send_mounted(port& to, std::uint64_t run);

/// Of a command line so much is told, its beginning.
inline constexpr std::size_t started_bytes_max = limits::channel_frame_bytes_max / 2;
void send_started(port& to, process_name of, const child& process, const process_plan& plan);
void send_output(port& to, process_name of, bool is_stderr, std::span<const unsigned char> data);
void send_stdin_taken(port& to, process_name of, std::uint64_t total_bytes, bool is_closed);
void send_exited(port& to, process_name of, const process_end& end, const output_stream& output,
                 const output_stream& errors);
void send_exec_failed(port& to, process_name of, const failure& why);
void send_failed(port& to, std::uint64_t run, std::string_view stage, const failure& why);

/// An empty error means clean.
void send_finished(port& to, std::uint64_t run, const std::string& error);

} // namespace coppice::agent
