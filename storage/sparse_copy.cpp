#include "storage/sparse_copy.hpp"

#include "storage/error.hpp"
#include "storage/file.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <optional>
#include <vector>

namespace coppice::storage {

namespace {

constexpr mode_t copy_mode = 0400;
constexpr std::size_t piece_bytes = 1u << 20;

/// A run of a file that is no hole.
struct data_run {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

/// The first one from `at` on; nothing: only a hole is left.
result<std::optional<data_run>> next_data(const file& from, std::uint64_t at, std::uint64_t size) {
  if (at >= size) {
    return std::optional<data_run>{};
  }
  const auto begin = ::lseek(from.fd(), static_cast<off_t>(at), SEEK_DATA);
  if (begin < 0) {
    if (errno == ENXIO) {
      return std::optional<data_run>{};
    }
    return io_failure(errno, "cannot find the data of " + from.path().string());
  }
  const auto end = ::lseek(from.fd(), begin, SEEK_HOLE);
  if (end < 0) {
    // A hole was punched over it between the two calls: the rest is looked at as a whole.
    return std::optional<data_run>{{static_cast<std::uint64_t>(begin), size}};
  }
  return std::optional<data_run>{
      {static_cast<std::uint64_t>(begin), std::min(static_cast<std::uint64_t>(end), size)}};
}

bool is_not_possible(int error_number) {
  return error_number == EXDEV || error_number == ENOSYS || error_number == EINVAL ||
         error_number == EOPNOTSUPP || error_number == EPERM;
}

/// Through memory, where the kernel cannot copy by itself.
result<void> copy_through_memory(const file& from, file& to, data_run run) {
  std::vector<std::byte> piece(piece_bytes);
  while (run.begin < run.end) {
    auto part = std::span{piece}.first(
        static_cast<std::size_t>(std::min<std::uint64_t>(piece.size(), run.end - run.begin)));
    auto got = from.read_at(run.begin, part);
    if (!got) {
      return got.error();
    }
    if (*got != part.size()) {
      return fail(ec::damaged, from.path().string() + ": became shorter while it was copied");
    }
    if (auto done = to.write_at(run.begin, part); !done) {
      return done;
    }
    run.begin += part.size();
  }
  return {};
}

result<void> copy_run(const file& from, file& to, data_run run) {
  while (run.begin < run.end) {
    auto read_at = static_cast<off_t>(run.begin);
    auto write_at = read_at;
    const auto done = ::copy_file_range(from.fd(), &read_at, to.fd(), &write_at,
                                        static_cast<std::size_t>(run.end - run.begin), 0);
    if (done > 0) {
      run.begin += static_cast<std::uint64_t>(done);
    } else if (done == 0 || is_not_possible(errno)) {
      return copy_through_memory(from, to, run);
    } else if (errno != EINTR) {
      return io_failure(errno, "cannot copy " + from.path().string() + " to " + to.path().string());
    }
  }
  return {};
}

result<copied_file> copy_content(const file& from, file& to) {
  copied_file out;
  if (::ioctl(to.fd(), FICLONE, from.fd()) == 0) {
    out.is_shared = true;
  } else {
    auto size = from.size_bytes();
    if (!size) {
      return size.error();
    }
    if (auto done = to.set_size(*size); !done) {
      return done.error();
    }
    for (std::uint64_t at = 0;;) {
      auto run = next_data(from, at, *size);
      if (!run) {
        return run.error();
      }
      if (!*run) {
        break;
      }
      if (auto done = copy_run(from, to, **run); !done) {
        return done.error();
      }
      out.data_bytes += (*run)->end - (*run)->begin;
      at = (*run)->end;
    }
  }
  if (auto done = to.sync(); !done) {
    return done.error();
  }
  return out;
}

} // namespace

result<copied_file> copy_sparse(const std::filesystem::path& from,
                                const std::filesystem::path& to) {
  auto source = file::open(from, O_RDONLY | O_NONBLOCK);
  if (!source) {
    return source.error();
  }
  auto target = file::open(to, O_RDWR | O_CREAT | O_EXCL, copy_mode);
  if (!target) {
    return target.error();
  }
  auto copied = copy_content(*source, *target);
  if (!copied) {
    static_cast<void>(remove_file(to));
  }
  return copied;
}

} // namespace coppice::storage
