#include "tests/storage/crash/trace.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <array>

namespace coppice::storage::test::crash {

std::string step::text() const {
  auto where = path.empty() ? "inode " + std::to_string(file) : path;
  switch (what) {
  case kind::make_file:
    return "make " + where;
  case kind::make_directory:
    return "make folder " + where;
  case kind::write:
    return (is_durable ? "durable write to " : "write to ") + where + " at " +
           std::to_string(offset) + ", " + std::to_string(data.size()) + " bytes";
  case kind::set_length:
    return "set length of " + where + " to " + std::to_string(length);
  case kind::punch:
    return "punch " + where + " at " + std::to_string(offset);
  case kind::rename:
    return "rename " + path + " to " + path_to;
  case kind::remove:
    return "remove " + where;
  case kind::sync_file:
    return "sync of " + where;
  case kind::sync_directory:
    return "sync of folder " + (path.empty() ? "." : path);
  case kind::note:
    return "note " + std::to_string(number);
  }
  return {};
}

trace::trace(std::filesystem::path root) : root_{std::filesystem::canonical(root)} {}

std::size_t trace::begin(step what) {
  steps_.push_back(std::move(what));
  events_.push_back({steps_.size() - 1, false});
  return steps_.size() - 1;
}

void trace::end(std::size_t number, std::int64_t result) {
  steps_[number].result = result;
  events_.push_back({number, true});
}

void trace::note(std::size_t number) {
  step told;
  told.number = number;
  end(begin(std::move(told)), 0);
}

bool trace::inside(const std::string& path, std::string& relative) const {
  auto normal = std::filesystem::path{path}.lexically_normal().string();
  while (normal.size() > 1 && normal.back() == '/') {
    normal.pop_back();
  }
  const auto& root = root_.native();
  if (normal == root) {
    relative.clear();
    return true;
  }
  if (!normal.starts_with(root + "/")) {
    return false;
  }
  relative = normal.substr(root.size() + 1);
  return true;
}

bool trace::inside(int fd, step& of, bool& is_directory) const {
  struct stat status {};
  if (::fstat(fd, &status) != 0 || (!S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode))) {
    return false;
  }
  std::array<char, 4096> target{};
  auto link = "/proc/self/fd/" + std::to_string(fd);
  auto length = ::readlink(link.c_str(), target.data(), target.size());
  if (length <= 0 || !inside({target.data(), static_cast<std::size_t>(length)}, of.path)) {
    return false;
  }
  of.file = status.st_ino;
  is_directory = S_ISDIR(status.st_mode);
  return true;
}

trace*& current() {
  static thread_local trace* recorded = nullptr;
  return recorded;
}

recording::recording(trace& into) {
  current() = &into;
}

recording::~recording() {
  current() = nullptr;
}

} // namespace coppice::storage::test::crash
