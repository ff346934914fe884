#include "vmm/agent/file_placer.hpp"

#include "vmm/agent/in_root.hpp"

#include <fcntl.h>
#include <sys/stat.h>

namespace coppice::agent {

file_placer::file_placer(int root, capnp::List<proto::FilePlacement>::Reader files) : root_{root} {
  files_.reserve(files.size());
  for (auto file : files) {
    files_.push_back({file.getPath().cStr(), file.getSizeBytes(), file.getUid(), file.getGid(),
                      file.getMode() & 07777});
  }
}

result<void> file_placer::open(const placement& file) {
  auto slash = file.path.rfind('/');
  if (slash == std::string::npos || file.path.front() != '/' || slash + 1 == file.path.size()) {
    return errno_failure(EINVAL, "placing the file " + file.path);
  }
  if (auto made = make_folders_in_root(root_, file.path.substr(0, slash), 0755); !made) {
    return made;
  }
  // Non-blocking, because the image may have a FIFO there; truncated only once it is known to be
  // a regular file.
  auto fd = open_in_root(root_, file.path, O_WRONLY | O_CREAT | O_NONBLOCK, 0600);
  if (!fd) {
    return fd.error();
  }
  struct stat st {};
  if (::fstat(fd->get(), &st) < 0) {
    return last_error(file.path);
  }
  if (!S_ISREG(st.st_mode)) {
    return errno_failure(EEXIST, file.path + " is not a regular file in the image");
  }
  if (::ftruncate(fd->get(), 0) < 0) {
    return last_error("emptying " + file.path);
  }
  current_ = std::move(*fd);
  written_bytes_ = 0;
  return {};
}

result<void> file_placer::take(std::uint32_t index, std::span<const unsigned char> data) {
  if (is_complete() || index != next_) {
    return errno_failure(EPROTO, "content of file " + std::to_string(index) + " while file " +
                                     std::to_string(next_) + " is due");
  }
  const auto& file = files_[next_];
  if (!current_) {
    if (auto opened = open(file); !opened) {
      return opened;
    }
  }
  if (data.size() > file.size_bytes - written_bytes_) {
    return errno_failure(EPROTO, "more content than announced for " + file.path);
  }
  while (!data.empty()) {
    auto n = ::write(current_.get(), data.data(), data.size());
    if (n < 0 && errno != EINTR) {
      return last_error("writing " + file.path);
    }
    if (n > 0) {
      data = data.subspan(static_cast<std::size_t>(n));
      written_bytes_ += static_cast<std::uint64_t>(n);
    }
  }
  if (written_bytes_ == file.size_bytes) {
    // The owner first: changing it takes the set-uid bits away.
    if (::fchown(current_.get(), file.uid, file.gid) < 0 ||
        ::fchmod(current_.get(), file.mode) < 0) {
      return last_error("setting owner and mode of " + file.path);
    }
    current_.reset();
    ++next_;
  }
  return {};
}

} // namespace coppice::agent
