#pragma once

#include "actors/machine_class.hpp"
#include "gateway/http/refusal.hpp"
#include "protocol/types.capnp.h"
#include "protocol/uuid.hpp"

#include <boost/json/object.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

/// The body of `POST /instances`: checked, and with every default filled in.
namespace coppice::gateway {

/// Limits on one request, so that the order to the guest fits one frame of its channel
/// (limits::channel_frame_bytes_max): the texts together, and what their lists add.
inline constexpr std::size_t arguments_max = 4096;
inline constexpr std::size_t variables_max = 4096;
inline constexpr std::size_t files_max = 1024;
inline constexpr std::size_t text_bytes_max = 1u << 20;
inline constexpr std::size_t path_bytes_max = 4096;   ///< PATH_MAX
inline constexpr std::size_t hostname_bytes_max = 64; ///< HOST_NAME_MAX
inline constexpr std::int32_t priority_max = 10;      ///< and as much below zero

struct file_order {
  std::string path;
  uuid file;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::uint32_t mode = 0644;
};

struct spawn_order {
  std::string command;
  std::string image; ///< as the client wrote it
  std::vector<std::string> args;
  bool shell = false;
  std::vector<std::pair<std::string, std::string>> env;
  bool preserve_env = false;
  std::string cwd; ///< empty: the image's
  std::optional<std::uint32_t> uid;
  std::optional<std::uint32_t> gid;
  std::string hostname = "linuxkit";
  std::string stdin_bytes;
  bool stdin_is_base64 = false;
  bool stdin_close = true;
  std::uint32_t timeout_seconds = 60;
  std::uint64_t truncate_output_at = 0;
  bool disposable = false;
  std::vector<file_order> files;
  std::uint64_t layer_bytes_max = 0;
  machine_class machine;
  std::int32_t priority = 0;
};

/// What the server's settings say about runs.
struct spawn_limits {
  std::uint32_t timeout_seconds_default = 60;
  std::uint32_t timeout_seconds_max = 3600;
  std::uint64_t layer_bytes_max = 12ull << 30;
  machine_class default_class;
  std::vector<machine_class> classes{machine_class{}}; ///< sorted, the default one among them
};

/// 400, naming the field.
answer<spawn_order> parse_spawn_order(const boost::json::object& body, const spawn_limits& limits);

/// Fills the request but for the resolved image and what is known of the files' content.
void fill_run_request(const spawn_order& order, proto::RunRequest::Builder out);

} // namespace coppice::gateway
