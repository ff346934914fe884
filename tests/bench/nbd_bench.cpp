#include "storage/disk/nbd_connection.hpp"
#include "storage/ring/io.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

// Serves a raw file over NBD on a unix socket, one connection after another, by the connection that
// serves the disks of virtual machines: what tests/bench/nbd.sh compares with qemu-storage-daemon.
// `inline`: io_uring for all but writes, which are made at once on its thread.

namespace {

using namespace coppice::storage;

class file_device : public block_device {
public:
  file_device(ring& on, int fd, std::uint64_t size_bytes, bool writes_inline)
      : ring_{on}, fd_{fd}, size_bytes_{size_bytes}, writes_inline_{writes_inline} {}

  std::uint64_t size_bytes() const override {
    return size_bytes_;
  }
  task<int> read(std::uint64_t offset_bytes, std::span<std::byte> out) override {
    return move(io_request::call::read, offset_bytes, out.data(), out.size());
  }
  task<int> write(std::uint64_t offset_bytes, std::span<const std::byte> data) override {
    if (writes_inline_) {
      return write_now(offset_bytes, data);
    }
    return move(io_request::call::write, offset_bytes, const_cast<std::byte*>(data.data()),
                data.size());
  }
  task<int> zero(std::uint64_t offset_bytes, std::uint64_t length_bytes) override {
    io_request request;
    request.what = io_request::call::allocate;
    request.fd = fd_;
    request.flags = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    request.offset = offset_bytes;
    request.length = length_bytes;
    io::once call{ring_, request};
    auto result = co_await call;
    co_return static_cast<int>(-result);
  }
  std::vector<status_run> status(std::uint64_t, std::uint64_t length_bytes, std::size_t) override {
    return {{length_bytes, false}};
  }

private:
  task<int> write_now(std::uint64_t offset_bytes, std::span<const std::byte> data) {
    auto n = ::pwrite(fd_, data.data(), data.size(), static_cast<off_t>(offset_bytes));
    co_return n == static_cast<ssize_t>(data.size()) ? 0 : EIO;
  }

  task<int> move(io_request::call what, std::uint64_t offset_bytes, std::byte* data,
                 std::uint64_t length_bytes) {
    while (length_bytes > 0) {
      io_request request;
      request.what = what;
      request.fd = fd_;
      request.offset = offset_bytes;
      request.buffer = data;
      request.length = length_bytes;
      io::once call{ring_, request};
      auto result = co_await call;
      if (result <= 0) {
        co_return result == 0 ? EIO : static_cast<int>(-result);
      }
      offset_bytes += static_cast<std::uint64_t>(result);
      data += result;
      length_bytes -= static_cast<std::uint64_t>(result);
    }
    co_return 0;
  }

  ring& ring_;
  int fd_;
  std::uint64_t size_bytes_;
  bool writes_inline_;
};

[[noreturn]] void give_up(const char* what) {
  std::perror(what);
  std::exit(1);
}

void serve(ring& on, int fd, file_device& disk) {
  auto is_closed = false;
  nbd_connection connection{on, fd, {disk.size_bytes(), "disk"}, &disk, [&](const std::string&) {
                              is_closed = true;
                            }};
  std::uint64_t turns = 0;
  for (; !is_closed; ++turns) {
    on.turn();
  }
  auto n = connection.counts();
  std::fprintf(stderr, "requests=%llu receives=%llu sends=%llu turns=%llu peak=%zu errors=%llu\n",
               static_cast<unsigned long long>(n.requests),
               static_cast<unsigned long long>(n.receives),
               static_cast<unsigned long long>(n.sends), static_cast<unsigned long long>(turns),
               n.requests_peak, static_cast<unsigned long long>(n.errors));
}

} // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: nbd_bench SOCKET FILE [uring|threads|inline]\n");
    return 2;
  }
  auto file = ::open(argv[2], O_RDWR | O_CLOEXEC);
  struct stat status {};
  if (file < 0 || ::fstat(file, &status) != 0) {
    give_up(argv[2]);
  }
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, argv[1], sizeof address.sun_path - 1);
  ::unlink(argv[1]);
  auto listening = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (::bind(listening, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(listening, 4) != 0) {
    give_up(argv[1]);
  }
  auto how = std::string_view{argc > 3 ? argv[3] : "uring"};
  auto on = how == "threads" ? make_thread_ring(4) : make_uring();
  file_device disk{*on, file, static_cast<std::uint64_t>(status.st_size), how == "inline"};
  for (;;) {
    auto fd = ::accept4(listening, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) {
      give_up("accept");
    }
    serve(*on, fd, disk);
  }
}
