#include "vmm/agent/users.hpp"

#include <algorithm>
#include <array>
#include <charconv>

namespace coppice::agent {
namespace {

struct account {
  std::string_view name;
  uid_t uid = 0;
  gid_t gid = 0;
  std::string_view home;
};

std::optional<std::uint32_t> number(std::string_view text) {
  std::uint32_t out = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  // The last value means "leave as it is" to the kernel.
  if (error != std::errc{} || end != text.data() + text.size() || out == 0xffff'ffff) {
    return std::nullopt;
  }
  return out;
}

/// Calls `visit(fields)` for each line until it returns true.
template <std::size_t N, class Visit>
void each_line(std::string_view text, Visit&& visit) {
  while (!text.empty()) {
    auto end = std::min(text.find('\n'), text.size());
    auto line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    std::array<std::string_view, N> fields{};
    std::size_t count = 0;
    while (count < N) {
      auto colon = std::min(line.find(':'), line.size());
      fields[count++] = line.substr(0, colon);
      if (colon == line.size()) {
        break;
      }
      line.remove_prefix(colon + 1);
    }
    if (count == N && visit(fields)) {
      return;
    }
  }
}

template <class Match>
std::optional<account> find_account(std::string_view passwd, Match&& match) {
  std::optional<account> out;
  each_line<7>(passwd, [&](const std::array<std::string_view, 7>& f) {
    auto uid = number(f[2]);
    auto gid = number(f[3]);
    if (f[0].empty() || !uid || !gid || !match(f[0], *uid)) {
      return false;
    }
    out = account{f[0], *uid, *gid, f[5]};
    return true;
  });
  return out;
}

std::optional<gid_t> find_group(std::string_view group, std::string_view name) {
  std::optional<gid_t> out;
  each_line<4>(group, [&](const std::array<std::string_view, 4>& f) {
    auto gid = number(f[2]);
    if (f[0] != name || !gid) {
      return false;
    }
    out = *gid;
    return true;
  });
  return out;
}

bool lists(std::string_view members, std::string_view name) {
  while (!members.empty()) {
    auto comma = std::min(members.find(','), members.size());
    if (members.substr(0, comma) == name) {
      return true;
    }
    members.remove_prefix(std::min(comma + 1, members.size()));
  }
  return false;
}

std::vector<gid_t> groups_of(std::string_view group, std::string_view name) {
  std::vector<gid_t> out;
  each_line<4>(group, [&](const std::array<std::string_view, 4>& f) {
    auto gid = number(f[2]);
    if (gid && lists(f[3], name)) {
      out.push_back(*gid);
    }
    return out.size() == groups_max;
  });
  return out;
}

} // namespace

result<identity> resolve_identity(const identity_request& request, std::string_view passwd,
                                  std::string_view group) {
  auto colon = std::min(request.user.find(':'), request.user.size());
  auto user = request.user.substr(0, colon);
  auto named_group = request.user.substr(std::min(colon + 1, request.user.size()));
  identity out;
  std::optional<account> found;
  auto uid = request.uid;
  if (!uid && !user.empty()) {
    found = find_account(passwd, [&](auto name, auto) { return name == user; });
    uid = found ? found->uid : number(user);
    if (!uid) {
      return errno_failure(ENOENT, "user " + std::string{user} + " in the image's /etc/passwd");
    }
  }
  out.uid = uid.value_or(0);
  if (!found) {
    found = find_account(passwd, [&](auto, uid_t entry) { return entry == out.uid; });
  }
  if (found) {
    out.gid = found->gid;
    out.home = found->home;
  }
  if (request.gid) {
    out.gid = *request.gid;
  } else if (!request.uid && !named_group.empty()) {
    auto gid = find_group(group, named_group);
    if (!gid) {
      gid = number(named_group);
    }
    if (!gid) {
      return errno_failure(ENOENT,
                           "group " + std::string{named_group} + " in the image's /etc/group");
    }
    out.gid = *gid;
  } else if (found) {
    out.groups = groups_of(group, found->name);
  }
  return out;
}

} // namespace coppice::agent
