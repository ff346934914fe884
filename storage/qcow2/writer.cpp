#include "storage/qcow2/writer.hpp"

#include "storage/error.hpp"
#include "storage/file.hpp"
#include "storage/qcow2/format.hpp"
#include "storage/qcow2/raw_conversion.hpp"

#include <fcntl.h>

#include <cstdint>
#include <string>

namespace coppice::storage::qcow2 {

namespace {

result<void> check_disk_size(std::uint64_t disk_bytes, const std::filesystem::path& path) {
  if (disk_bytes == 0 || disk_bytes % 512 != 0) {
    return fail(ec::unsupported, path.string() + ": a disk of " + std::to_string(disk_bytes) +
                                     " bytes is not a whole number of sectors");
  }
  if (disk_bytes > disk_bytes_max) {
    return fail(ec::too_large, path.string() + ": a disk of " + std::to_string(disk_bytes) +
                                   " bytes is more than " + std::to_string(disk_bytes_max));
  }
  return {};
}

/// Runs `write` on a new file and removes the file again if that fails.
template <class Write>
result<void> with_new_file(const std::filesystem::path& path, Write&& write) {
  auto out = file::open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
  if (!out) {
    return out.error();
  }
  auto written = write(*out);
  if (!written) {
    static_cast<void>(remove_file(path)); // the first failure is the one to tell
  }
  return written;
}

} // namespace

result<void> write_from_raw(const std::filesystem::path& raw, const std::filesystem::path& out) {
  auto source = file::open(raw, O_RDONLY);
  if (!source) {
    return source.error();
  }
  auto disk_bytes = source->size_bytes();
  if (!disk_bytes) {
    return disk_bytes.error();
  }
  if (auto fits = check_disk_size(*disk_bytes, raw); !fits) {
    return fits;
  }
  return with_new_file(out, [&](file& target) {
    return raw_conversion{*source, *disk_bytes, target}.run();
  });
}

} // namespace coppice::storage::qcow2
