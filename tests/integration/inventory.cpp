#include "tests/integration/inventory.hpp"

#include "tests/integration/processes.hpp"

#include <algorithm>
#include <cstdlib>
#include <sstream>

namespace coppice::test {

namespace fs = std::filesystem;

namespace {

/// Numbers differ from one socket or VM to the next.
std::string without_numbers(std::string text) {
  text.erase(std::remove_if(text.begin(), text.end(),
                            [](char c) { return (c >= '0' && c <= '9') || c == '-'; }),
             text.end());
  return text;
}

void add_descriptors(inventory& to, const std::string& name, pid_t pid) {
  for (const auto& [number, target] : descriptors_of(pid)) {
    ++to[name + " has open " + without_numbers(target)];
  }
}

void add_process(inventory& to, const std::string& name, pid_t pid) {
  add_descriptors(to, name, pid);
  for (const auto& thread : entries_of(proc(pid) / "task")) {
    ++to[name + " has a thread " + without_numbers(text_of(proc(pid) / "task" / thread / "comm"))];
  }
}

void add_files(inventory& to, const fs::path& folder) {
  std::error_code gone;
  for (fs::recursive_directory_iterator at{folder, gone}, end; !gone && at != end;
       at.increment(gone)) {
    ++to[at->path().string()];
  }
}

} // namespace

own_temporary_folder::own_temporary_folder() {
  fs::permissions(at.path(), fs::perms::all | fs::perms::sticky_bit); // the daemon is not root
  ::setenv("TMPDIR", at.path().c_str(), 1);
}

own_temporary_folder::~own_temporary_folder() {
  ::unsetenv("TMPDIR");
}

inventory inventory_of(const node& server, const fs::path& state) {
  inventory out;
  add_process(out, "the daemon", server.pid());
  const auto launcher = launcher_of(server.pid());
  if (launcher != 0) {
    add_process(out, "the launcher", launcher);
    out["mounts of the launcher"] =
        static_cast<int>(lines_of(text_of(proc(launcher) / "mountinfo")).size());
  }
  for (auto pid : descendants_of(server.pid())) {
    const auto name = lines_of(text_of(proc(pid) / "comm") + "\n").front(); // empty: it has gone
    ++out["process " + name];
    add_descriptors(out, name, pid);
  }
  // Also that of a process that has lost its parent.
  out["processes with this state folder"] = static_cast<int>(processes_with(state.string()).size());
  add_files(out, state);
  for (const fs::path shared : {"/dev/shm", "/dev/mqueue"}) {
    if (fs::exists(shared)) {
      add_files(out, shared);
    }
  }
  for (const auto& name : entries_of(fs::temp_directory_path())) { // this test's own
    ++out["temporary " + name];
  }
  out["mounts"] = static_cast<int>(lines_of(text_of("/proc/self/mountinfo")).size());
  for (const fs::path groups : {"/sys/fs/cgroup/coppice", "/sys/fs/cgroup/unified/coppice"}) {
    add_files(out, groups);
  }
  return out;
}

std::string surplus(const inventory& before, const inventory& now) {
  std::ostringstream out;
  for (const auto& [name, count] : now) {
    const auto at = before.find(name);
    if (const int had = at == before.end() ? 0 : at->second; count > had) {
      out << name << ": " << count << " instead of " << had << '\n';
    }
  }
  return out.str();
}

std::size_t count_in(const inventory& all, const std::string& prefix) {
  std::size_t out = 0;
  for (const auto& [name, count] : all) {
    out += name.starts_with(prefix) ? static_cast<std::size_t>(count) : 0;
  }
  return out;
}

long anonymous_kib(pid_t pid) {
  return std::stol(status_of_process(pid, "RssAnon"));
}

} // namespace coppice::test
