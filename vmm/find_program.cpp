#include "vmm/find_program.hpp"

#include "vmm/error.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string_view>

namespace coppice::vmm {

namespace {

bool is_executable_file(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) {
    return false;
  }
  if (!S_ISREG(info.st_mode)) {
    errno = EACCES;
    return false;
  }
  return ::access(path.c_str(), X_OK) == 0;
}

} // namespace

result<std::string> find_program(const std::string& name) {
  if (name.find('/') != std::string::npos) {
    if (name.front() != '/') {
      return fail(ec::missing, "program " + name + ": give an absolute path or a bare name");
    }
    if (!is_executable_file(name)) {
      return fail(ec::missing, "program " + name + ": " + std::strerror(errno));
    }
    return name;
  }
  const char* from_environment = std::getenv("PATH");
  const std::string_view path =
      from_environment != nullptr && *from_environment != '\0'
          ? from_environment
          : "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
  for (std::size_t begin = 0; !name.empty() && begin <= path.size();) {
    auto end = std::min(path.find(':', begin), path.size());
    // A relative entry would depend on the working directory: never taken.
    if (end > begin && path[begin] == '/') {
      auto candidate = std::string{path.substr(begin, end - begin)} + '/' + name;
      if (is_executable_file(candidate)) {
        return candidate;
      }
    }
    begin = end + 1;
  }
  return fail(ec::missing, "program " + name + ": not found in " + std::string{path});
}

} // namespace coppice::vmm
