#pragma once

#include "actors/machine_class.hpp"
#include "gateway/http/process_order.hpp"
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

inline constexpr std::size_t files_max = 1024;        ///< as in process_order.hpp
inline constexpr std::size_t hostname_bytes_max = 64; ///< HOST_NAME_MAX
inline constexpr std::int32_t priority_max = 10;      ///< and as much below zero

struct file_order {
  std::string path;
  uuid file;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::uint32_t mode = 0644;
};

struct spawn_order : process_order {
  std::string image; ///< as the client wrote it
  bool preserve_env = false;
  std::string hostname = "linuxkit";
  std::uint32_t timeout_seconds = 60;
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
