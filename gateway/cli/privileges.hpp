#pragma once

#include "actors/settings.hpp"
#include "protocol/result.hpp"
#include "vmm/launcher.hpp"

#include <sys/types.h>

#include <filesystem>
#include <memory>
#include <string>

/// How a daemon that was started as root stops being it.
namespace coppice::cli {

struct daemon_user {
  uid_t uid = 0;
  gid_t gid = 0;
  std::string name; ///< empty: a number without a name
};

/// Whom the settings mean. not_found: there is no such user.
result<daemon_user> find_daemon_user(const settings& values);

/// What the launcher is to be told. Programs that are not installed are left out.
vmm::launcher_config launcher_config_of(const settings& values, const daemon_user& user,
                                        const std::filesystem::path& program);

/// Makes the state folder if it is not there, and the user the owner of it and of all in it, unless
/// a daemon is at work there. Only for root. Never follows a link, and leaves files alone that have
/// several names: one of them may be outside.
result<void> hand_over(const std::filesystem::path& state_dir, const daemon_user& user);

/// Becomes the user, for good.
result<void> become(const daemon_user& user);

} // namespace coppice::cli
