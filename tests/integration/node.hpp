#pragma once

#include "tests/support/event_stream.hpp"
#include "tests/support/http_client.hpp"

#include <boost/json/value.hpp>

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

/// A real daemon with real microVMs, as a user runs it, in a state folder of its own.
namespace coppice::test {

/// The program under test and its parts, from the build.
std::filesystem::path program();
std::filesystem::path source_dir();

/// Waits in these tests are for events, with this limit: scaled by a boot measured on this
/// machine, now, so that a slow machine is slow and not broken.
std::chrono::seconds patience();

class state_folder {
public:
  state_folder();
  ~state_folder();
  state_folder(const state_folder&) = delete;
  state_folder& operator=(const state_folder&) = delete;

  const std::filesystem::path& path() const {
    return path_;
  }

private:
  std::filesystem::path path_;
};

/// How many files of unfinished work are in a state folder.
std::size_t overlays_in(const std::filesystem::path& state);

class node {
public:
  /// Starts `coppice serve` on `state` with further `--section.key=value` arguments and waits until
  /// it says that it is ready. `before`: a command that executes what follows it, as setpriv does.
  explicit node(const std::filesystem::path& state, std::vector<std::string> arguments = {},
                std::vector<std::string> before = {});

  /// Kills what is left. Where the test has failed it prints the end of the log first.
  ~node();
  node(const node&) = delete;
  node& operator=(const node&) = delete;

  pid_t pid() const {
    return pid_;
  }

  /// SIGKILL, and waits for its end.
  void kill();
  /// SIGTERM, waits, and gives the exit status.
  int stop();
  /// Waits, and gives the exit status; 128 more than the signal that ended it.
  int wait_for_end();

  std::string log() const;

  /// A connection of its own, with a token of the default project.
  http_client connect() const;

  std::uint16_t port() const {
    return port_;
  }
  /// What `connect` shows to the server.
  const std::string& own_token() const {
    return token_;
  }

  /// The events of an operation, on a connection of its own.
  event_stream events(const std::string& operation, const std::string& query = {},
                      const header_list& headers = {}) const {
    return {port_, token_, "/v1/operations/" + operation + "/events" + query, headers};
  }

  /// Runs `coppice ARGUMENTS` against this state folder; gives its output; fails the test when it
  /// does not exit with 0.
  std::string command(const std::string& arguments) const;

  std::string token(const std::string& project = "default") const;

  // -- what most tests do
  // --------------------------------------------------------------------------

  /// Imports the base image as busybox:latest and gives its id.
  std::string import_busybox() const;

  /// POST /v1/instances; 201 is checked; gives the operation's id.
  std::string spawn(const boost::json::object& request) const;

  /// Follows the operation to its end.
  boost::json::object wait(const std::string& operation) const;

  /// Waits until the operation has one of these states.
  boost::json::object wait_for(const std::string& operation,
                               const std::vector<std::string>& states) const;

  /// spawn and wait.
  boost::json::object run(const boost::json::object& request) const;

  /// A shell command on an image.
  boost::json::object shell(const std::string& image, const std::string& script) const;

private:
  void tell_last_words() const;

  std::filesystem::path state_;
  std::filesystem::path log_file_;
  pid_t pid_ = -1;
  std::uint16_t port_ = 0;
  std::string token_;
};

/// `operation["metadata"]["result"]["stdout"]`, decoded.
std::string stdout_of(const boost::json::object& operation);
std::string stderr_of(const boost::json::object& operation);
std::int64_t exit_code_of(const boost::json::object& operation);
std::string result_image_of(const boost::json::object& operation);
std::string status_of(const boost::json::object& operation);
std::string error_of(const boost::json::object& operation);

/// The processes of which `pid` is an ancestor (through guards, too), without the launcher: what
/// work has started.
std::vector<pid_t> descendants_of(pid_t pid);

/// Processes on this machine whose command line mentions `text`.
std::vector<pid_t> processes_with(const std::string& text);

/// Waits until `claim` holds; fails the test with `what` when it does not within patience().
void eventually(const std::string& what, const std::function<bool()>& claim);

} // namespace coppice::test
