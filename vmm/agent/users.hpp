#pragma once

#include "vmm/agent/descriptor.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <sys/types.h>

namespace coppice::agent {

/// Who a process runs as.
struct identity {
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups; ///< supplementary
  std::string home;          ///< from passwd; empty without an entry
};

/// What the request and the image say about the user.
struct identity_request {
  std::string_view user; ///< the image's: "name", "uid", "name:group", "uid:gid"; empty: 0
  std::optional<uid_t> uid;
  std::optional<gid_t> gid;
};

/// Resolves as container runtimes do, against the text of the image's passwd and group files:
/// a group that is named replaces the user's own, supplementary groups come with the user's own
/// only, a number needs no entry. The texts are an image's: malformed lines are skipped.
/// ENOENT: a name that is in neither file.
result<identity> resolve_identity(const identity_request& request, std::string_view passwd,
                                  std::string_view group);

/// Read of /etc/passwd or /etc/group at most: enough for tens of thousands of entries.
inline constexpr std::size_t account_file_bytes_max = 1u << 20;

/// Supplementary groups kept of one user: the kernel's own limit (NGROUPS_MAX).
inline constexpr std::size_t groups_max = 65536;

} // namespace coppice::agent
