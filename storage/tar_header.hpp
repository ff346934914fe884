#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace coppice::storage {

/// One member of a tar archive, without its content.
struct tar_entry {
  enum class type : char {
    regular = '0',
    hard_link = '1',
    soft_link = '2',
    character_device = '3',
    block_device = '4',
    directory = '5',
    fifo = '6',
  };
  type kind = type::regular;
  std::string path; ///< a directory's ends in a slash
  std::string link; ///< target of a link
  std::uint32_t mode = 0;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::int64_t mtime_unix_s = 0;
  std::uint64_t size_bytes = 0; ///< of a regular file; its content follows, padded to tar_block
  std::uint32_t device_major = 0;
  std::uint32_t device_minor = 0;
  std::vector<std::pair<std::string, std::string>> xattrs; ///< name and value
};

inline constexpr std::size_t tar_block_bytes = 512;

/// The header of a member as it stands in the archive (POSIX.1-2017, pax): a ustar block, before it
/// an extended header for what does not fit there. Owners are numbers only. The same for the same
/// entry, always.
///
/// libarchive's writer would want the content too, or fill it with zeros: here it goes another way.
std::string tar_header(const tar_entry& entry);

/// What stands after the last member.
std::string tar_end();

/// The zeros between a content of that size and the next header.
std::string tar_padding(std::uint64_t size_bytes);

} // namespace coppice::storage
