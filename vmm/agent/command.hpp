#pragma once

#include "protocol/types.capnp.h"
#include "vmm/agent/users.hpp"

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace coppice::agent {

/// What execve needs, all but the place.
struct command_line {
  std::vector<std::string> argv;
  std::vector<std::string> environment; ///< NAME=value, each name once
  std::vector<std::string> candidates;  ///< files to try in this order
};

/// The PATH that container runtimes give where the image has none.
inline constexpr std::string_view default_path =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// One word for a POSIX shell whatever bytes are in it.
std::string shell_quoted(std::string_view word);

using variable_list = capnp::List<proto::EnvVar>::Reader;

/// Each layer over the ones before it (the last of a name wins), then PATH and HOME where none has
/// them.
std::vector<std::string> merged_environment(std::initializer_list<variable_list> layers,
                                            const identity& who);

/// A name without a slash is looked up in `path`, where an empty entry means the current folder.
std::vector<std::string> executable_candidates(std::string_view name, std::string_view path);

/// A shell command becomes /bin/sh -c TEXT, the arguments quoted behind the text. An empty shell
/// command means that the script comes on standard input. The environment is that of the image,
/// then of the process that this one stands `beside`, if any, then its own.
command_line make_command_line(proto::ProcessSpec::Reader process, proto::ImageConfig::Reader image,
                               const identity& who, proto::ProcessSpec::Reader beside = {});

} // namespace coppice::agent
