#include "vmm/cgroup.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string_view>

namespace coppice::vmm {

namespace {

constexpr const char* own_group = "daemon";

failure cannot(const std::string& what) {
  return fail(ec::spawn, what + ": " + std::strerror(errno));
}

result<std::string> read_at(int folder, const std::string& name) {
  const unique_fd file{::openat(folder, name.c_str(), O_RDONLY | O_CLOEXEC)};
  if (!file) {
    return cannot("reading " + name);
  }
  std::string out;
  std::array<char, 4096> piece{};
  for (ssize_t n = 0; (n = ::read(file.get(), piece.data(), piece.size())) > 0;) {
    out.append(piece.data(), static_cast<std::size_t>(n));
  }
  return out;
}

result<void> write_at(int folder, const std::string& name, std::string_view text) {
  const unique_fd file{::openat(folder, name.c_str(), O_WRONLY | O_CLOEXEC)};
  if (!file || ::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    return cannot("writing " + std::string{text} + " to " + name);
  }
  return {};
}

bool has_word(const std::string& text, std::string_view word) {
  std::istringstream words{text};
  for (std::string w; words >> w;) {
    if (w == word) {
      return true;
    }
  }
  return false;
}

} // namespace

result<cgroup_tree> cgroup_tree::take(const std::filesystem::path& folder,
                                      const std::vector<pid_t>& ours) {
  unique_fd dir{::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (!dir) {
    return cannot("opening " + folder.string());
  }
  auto controllers = read_at(dir.get(), "cgroup.controllers");
  auto processes = read_at(dir.get(), "cgroup.procs");
  if (!controllers || !processes) {
    return controllers ? processes.error() : controllers.error();
  }
  for (const char* needed : {"memory", "pids"}) {
    if (!has_word(*controllers, needed)) {
      return fail(ec::spawn, "the controller " + std::string{needed} + " is not in " +
                                 folder.string() + " (cgroup v2 has to be delegated with it)");
    }
  }
  std::istringstream pids{*processes};
  for (pid_t pid = 0; pids >> pid;) {
    if (std::find(ours.begin(), ours.end(), pid) == ours.end()) {
      return fail(ec::spawn, folder.string() + " is not ours alone: process " +
                                 std::to_string(pid) + " is in it");
    }
  }
  if (::mkdirat(dir.get(), own_group, 0755) != 0 && errno != EEXIST) {
    return cannot("making a group in " + folder.string());
  }
  for (auto pid : ours) {
    if (auto moved =
            write_at(dir.get(), std::string{own_group} + "/cgroup.procs", std::to_string(pid));
        !moved) {
      return moved.error();
    }
  }
  if (auto enabled = write_at(dir.get(), "cgroup.subtree_control", "+memory +pids"); !enabled) {
    return enabled.error();
  }
  return cgroup_tree{std::move(dir)};
}

result<unique_fd> cgroup_tree::make(const std::string& name, const limits& most) const {
  if (::mkdirat(folder_.get(), name.c_str(), 0755) != 0 && errno != EEXIST) {
    return cannot("making the cgroup " + name);
  }
  auto set = [&](const char* file, std::uint64_t value) -> result<void> {
    return write_at(folder_.get(), name + "/" + file,
                    value == 0 ? std::string{"max"} : std::to_string(value));
  };
  for (auto done : {set("memory.max", most.memory_bytes), set("pids.max", most.processes)}) {
    if (!done) {
      remove(name);
      return done.error();
    }
  }
  // All in it die together when its memory is used up; half a VM is of no use. Not in old kernels.
  static_cast<void>(write_at(folder_.get(), name + "/memory.oom.group", "1"));
  unique_fd entry{::openat(folder_.get(), (name + "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC)};
  if (!entry) {
    auto why = cannot("opening the cgroup " + name);
    remove(name);
    return why;
  }
  return entry;
}

void cgroup_tree::remove(const std::string& name) const {
  ::unlinkat(folder_.get(), name.c_str(), AT_REMOVEDIR);
}

std::filesystem::path own_cgroup_folder() {
  constexpr std::string_view unified = "0::";
  std::ifstream lines{"/proc/self/cgroup"};
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with(unified)) {
      continue;
    }
    for (const char* mount : {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}) {
      auto folder = std::filesystem::path{mount + line.substr(unified.size())};
      std::error_code ignored;
      if (std::filesystem::exists(folder / "cgroup.controllers", ignored)) {
        return folder;
      }
    }
  }
  return {};
}

} // namespace coppice::vmm
