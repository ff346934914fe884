#include "tests/integration/processes.hpp"

#include "tests/integration/node.hpp"

#include <signal.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <sstream>

namespace coppice::test {

namespace fs = std::filesystem;

fs::path proc(pid_t pid) {
  return "/proc/" + std::to_string(pid);
}

std::string text_of(const fs::path& file) {
  std::ifstream in{file, std::ios::binary};
  return {std::istreambuf_iterator<char>{in}, {}};
}

std::string status_of_process(pid_t pid, const std::string& name) {
  std::istringstream lines{text_of(proc(pid) / "status")};
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(name + ":")) {
      auto value = line.substr(name.size() + 1);
      value.erase(0, value.find_first_not_of(" \t"));
      return value.substr(0, value.find_last_not_of(" \t") + 1);
    }
  }
  return {};
}

unsigned long uid_of(pid_t pid) {
  return std::stoul(status_of_process(pid, "Uid"));
}

std::vector<std::string> entries_of(const fs::path& folder) {
  std::vector<std::string> out;
  for (const auto& entry : fs::directory_iterator{folder}) {
    out.push_back(entry.path().filename().string());
  }
  std::sort(out.begin(), out.end());
  return out;
}

std::map<int, std::string> descriptors_of(pid_t pid) {
  std::map<int, std::string> out;
  std::error_code gone;
  for (fs::directory_iterator at{proc(pid) / "fd", gone}, end; !gone && at != end;
       at.increment(gone)) {
    std::error_code closed;
    auto target = fs::read_symlink(at->path(), closed).string();
    if (!closed) {
      out.emplace(std::stoi(at->path().filename().string()), std::move(target));
    }
  }
  return out;
}

std::vector<std::string> arguments_of(pid_t pid) {
  std::vector<std::string> out;
  std::istringstream text{text_of(proc(pid) / "cmdline")};
  for (std::string argument; std::getline(text, argument, '\0');) {
    out.push_back(argument);
  }
  return out;
}

std::map<pid_t, pid_t> qemus_of(pid_t daemon) {
  std::map<pid_t, pid_t> out;
  for (auto pid : descendants_of(daemon)) {
    std::error_code gone;
    const auto program = fs::read_symlink(proc(pid) / "exe", gone).filename().string();
    const auto parent = status_of_process(pid, "PPid");
    if (program.starts_with("qemu-system") && !parent.empty()) {
      out.emplace(pid, static_cast<pid_t>(std::stol(parent)));
    }
  }
  return out;
}

bool is_restored(pid_t qemu) {
  const auto arguments = arguments_of(qemu);
  return std::find(arguments.begin(), arguments.end(), "-incoming") != arguments.end();
}

pid_t launcher_of(pid_t daemon) {
  std::istringstream children{text_of(proc(daemon) / "task" / std::to_string(daemon) / "children")};
  for (pid_t child = 0; children >> child;) {
    if (text_of(proc(child) / "comm") == "coppice-launch\n") {
      return child;
    }
  }
  return 0;
}

bool is_alive(pid_t pid) {
  const auto state = status_of_process(pid, "State");
  return !state.empty() && !state.starts_with("Z") && !state.starts_with("X");
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> out;
  std::istringstream in{text};
  for (std::string line; std::getline(in, line);) {
    out.push_back(line);
  }
  return out;
}

std::size_t count_of(const std::string& text, const std::string& part) {
  std::size_t out = 0;
  for (auto at = text.find(part); at != text.npos; at = text.find(part, at + 1)) {
    ++out;
  }
  return out;
}

} // namespace coppice::test
