#include "storage/ext4_inode.hpp"

#include "storage/ext4_failure.hpp"
#include "storage/printable.hpp"

#include <algorithm>
#include <memory>

namespace coppice::storage {

namespace {

static_assert(sizeof(ext4_inode) == 256);

// Seconds are a signed 32-bit number plus two epoch bits that count 2^32 each.
constexpr std::int64_t time_min = -(std::int64_t{1} << 31);
constexpr std::int64_t time_max = (std::int64_t{1} << 34) - (std::int64_t{1} << 31) - 1;

struct xattr_closer {
  void operator()(ext2_xattr_handle* handle) const {
    ext2fs_xattrs_close(&handle);
  }
};

} // namespace

ext4_inode::ext4_inode(std::uint32_t type, const file_attributes& attributes) {
  const auto seconds = std::clamp(attributes.mtime_unix_s, time_min, time_max);
  const auto low = static_cast<std::uint32_t>(seconds & 0xffff'ffff);
  const auto epoch =
      static_cast<std::uint32_t>(((seconds - static_cast<std::int32_t>(low)) >> 32) & 3);
  const auto extra = epoch | attributes.mtime_ns << 2;
  fields.i_mode = static_cast<std::uint16_t>(type | (attributes.permissions & 07777u));
  fields.i_uid = static_cast<std::uint16_t>(attributes.uid);
  fields.osd2.linux2.l_i_uid_high = static_cast<std::uint16_t>(attributes.uid >> 16);
  fields.i_gid = static_cast<std::uint16_t>(attributes.gid);
  fields.osd2.linux2.l_i_gid_high = static_cast<std::uint16_t>(attributes.gid >> 16);
  fields.i_links_count = 1;
  fields.i_extra_isize = sizeof(ext2_inode_large) - EXT2_GOOD_OLD_INODE_SIZE;
  fields.i_atime = fields.i_ctime = fields.i_mtime = fields.i_crtime = low;
  fields.i_atime_extra = fields.i_ctime_extra = fields.i_mtime_extra = fields.i_crtime_extra =
      extra;
}

void ext4_inode::set_size(std::uint64_t size_bytes) {
  fields.i_size = static_cast<std::uint32_t>(size_bytes);
  fields.i_size_high = static_cast<std::uint32_t>(size_bytes >> 32);
}

result<void> ext4_inode::write(ext2_filsys fs, std::uint32_t number) {
  auto code = ext2fs_write_inode_full(fs, number, base(), sizeof *this);
  if (code != 0) {
    return ext4_failure(code, "writing inode " + std::to_string(number));
  }
  return {};
}

result<void> write_xattrs(ext2_filsys fs, std::uint32_t number,
                          const std::vector<extended_attribute>& xattrs) {
  if (xattrs.empty()) {
    return {};
  }
  ext2_xattr_handle* opened = nullptr;
  auto code = ext2fs_xattrs_open(fs, number, &opened);
  if (code != 0) {
    return ext4_failure(code, "opening the attributes of inode " + std::to_string(number));
  }
  std::unique_ptr<ext2_xattr_handle, xattr_closer> handle{opened};
  for (const auto& xattr : xattrs) {
    code = ext2fs_xattr_set(opened, xattr.name.c_str(), xattr.value.data(), xattr.value.size());
    if (code == EINVAL || code == ENOMEM) {
      return fail(ec::damaged, "malformed extended attribute " + printable(xattr.name));
    }
    if (code != 0) {
      return ext4_failure(code, "extended attribute " + printable(xattr.name));
    }
  }
  return {};
}

} // namespace coppice::storage
