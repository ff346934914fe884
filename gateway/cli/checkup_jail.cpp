#include "gateway/cli/checkup.hpp"
#include "gateway/cli/privileges.hpp"

#include <unistd.h>

#include <utility>

namespace coppice::cli {
namespace {

constexpr const char* unjailed =
    "child processes run as the daemon's user and see its files; QEMU has only its own -sandbox";

finding check_user(const settings& values, const result<daemon_user>& user) {
  if (!user) {
    return {verdict::fail, "user", user.error().text, "make it, or change daemon.user"};
  }
  const auto text = "the daemon becomes uid " + std::to_string(user->uid) +
                    (user->name.empty() ? "" : " (" + user->name + ")");
  if (user->uid == 0) {
    return {verdict::warn, "user", "the daemon stays root: whoever takes it over has the machine",
            "leave daemon.user empty, or name a user for it"};
  }
  if (user->name.empty() && values.daemon.user.empty()) {
    return {verdict::ok, "user", text + ", since there is no user coppice", ""};
  }
  return {verdict::ok, "user", text, ""};
}

finding check_uids(const settings& values) {
  return {verdict::ok, "jail uids",
          std::to_string(values.jail.uid_count - 1) + " from " +
              std::to_string(values.jail.uid_first + 1),
          ""};
}

finding check_cgroups(const vmm::launcher_facts& facts) {
  if (facts.without_cgroups.empty()) {
    return {verdict::ok, "cgroups", "each jail has one, with limits of memory and processes", ""};
  }
  return {verdict::warn, "cgroups",
          "not used, resource limits hold each process alone: " + facts.without_cgroups,
          "with systemd: Delegate=yes in the daemon's unit, on a host with cgroup v2 alone"};
}

} // namespace

std::vector<finding> check_jail(const settings& values, const std::filesystem::path& program) {
  if (::geteuid() != 0) {
    return {{verdict::warn, "jail", std::string{"not for a daemon that is not root: "} + unjailed,
             "start the daemon as root: it gives that up by itself"}};
  }
  std::vector<finding> out;
  const auto user = find_daemon_user(values);
  out.push_back(check_user(values, user));
  if (!user) {
    return out;
  }
  auto started = vmm::launcher::start(launcher_config_of(values, *user, program), program);
  if (!started) {
    out.push_back({verdict::warn, "jail", started.error().text + "; " + unjailed,
                   "give the daemon CAP_SYS_ADMIN, or set jail.uid_first to ids that exist here"});
    return out;
  }
  const auto& facts = (*started)->facts();
  out.push_back({verdict::ok, "jail",
                 std::string{"the launcher works; QEMU's root is "} +
                     (facts.has_user_namespaces
                          ? "empty"
                          : "its own files only (user namespaces are off, so it has no -chroot)"),
                 ""});
  out.push_back(check_uids(values));
  out.push_back(check_cgroups(facts));
  return out;
}

} // namespace coppice::cli
