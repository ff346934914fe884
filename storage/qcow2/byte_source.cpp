#include "storage/qcow2/byte_source.hpp"

#include "storage/error.hpp"
#include "storage/file.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace coppice::storage::qcow2 {

namespace {

class file_bytes final : public byte_source {
public:
  file_bytes(file opened, std::uint64_t size_bytes)
      : file_{std::move(opened)}, name_{file_.path().string()}, size_bytes_{size_bytes} {}

  const std::string& name() const override {
    return name_;
  }

  std::uint64_t size_bytes() const override {
    return size_bytes_;
  }

  result<void> read(std::uint64_t offset_bytes, std::span<std::byte> out) const override {
    auto done = file_.read_at(offset_bytes, out);
    if (!done) {
      return done.error();
    }
    std::fill(out.begin() + static_cast<std::ptrdiff_t>(*done), out.end(), std::byte{0});
    return {};
  }

private:
  file file_;
  std::string name_;
  std::uint64_t size_bytes_;
};

class memory_bytes final : public byte_source {
public:
  memory_bytes(std::string name, std::vector<std::byte> bytes)
      : name_{std::move(name)}, bytes_{std::move(bytes)} {}

  const std::string& name() const override {
    return name_;
  }

  std::uint64_t size_bytes() const override {
    return bytes_.size();
  }

  result<void> read(std::uint64_t offset_bytes, std::span<std::byte> out) const override {
    auto start = std::min<std::uint64_t>(offset_bytes, bytes_.size());
    auto count = std::min<std::size_t>(out.size(), bytes_.size() - static_cast<std::size_t>(start));
    auto from = bytes_.begin() + static_cast<std::ptrdiff_t>(start);
    auto end = std::copy(from, from + static_cast<std::ptrdiff_t>(count), out.begin());
    std::fill(end, out.end(), std::byte{0});
    return {};
  }

private:
  std::string name_;
  std::vector<std::byte> bytes_;
};

} // namespace

result<std::unique_ptr<byte_source>> open_bytes(const std::filesystem::path& path) {
  // O_NONBLOCK: opening must not wait for the other end where the name is a fifo.
  auto opened = file::open(path, O_RDONLY | O_NONBLOCK);
  if (!opened) {
    return opened.error();
  }
  struct stat status {};
  if (::fstat(opened->fd(), &status) != 0) {
    return io_failure(errno, "cannot look at " + path.string());
  }
  if (!S_ISREG(status.st_mode)) {
    return fail(ec::damaged, path.string() + ": not a regular file");
  }
  return std::unique_ptr<byte_source>{
      std::make_unique<file_bytes>(std::move(*opened), static_cast<std::uint64_t>(status.st_size))};
}

std::unique_ptr<byte_source> bytes_in_memory(std::string name, std::vector<std::byte> bytes) {
  return std::make_unique<memory_bytes>(std::move(name), std::move(bytes));
}

} // namespace coppice::storage::qcow2
