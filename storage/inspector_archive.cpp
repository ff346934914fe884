#include "storage/error.hpp"
#include "storage/ext4_failure.hpp"
#include "storage/inspector_parts.hpp"
#include "storage/inspector_walk.hpp"
#include "storage/tar_header.hpp"

#include <sys/sysmacros.h>

#include <bit>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>
#include <unordered_map>

namespace coppice::storage::inspection {

namespace {

/// Names of files with several links that are remembered. Beyond that each name is a file of its
/// own: larger, and still the same content.
constexpr std::size_t link_bytes_max = 64u << 20;
constexpr std::size_t link_bytes = 128; ///< of one, beside its path

static_assert(std::endian::native == std::endian::little); // as ext4 and as the kernel tells lists

/// Extended attributes of a file beyond this are left out: an ext4 inode has a block of them.
constexpr std::size_t xattr_bytes_max = 64u << 10;

using xattr_list = std::vector<std::pair<std::string, std::string>>;

/// An access control list as the kernel tells it and takes it (linux/posix_acl_xattr.h), made of
/// ext4's own form of it, which leaves out the numbers of entries that name nobody. Nothing: it is
/// malformed.
std::optional<std::string> posix_acl(std::string_view disk_form) {
  constexpr std::uint32_t disk_version = 1;
  constexpr std::uint32_t told_version = 2;
  constexpr std::uint16_t user = 2;
  constexpr std::uint16_t group = 8;
  constexpr std::uint32_t nobody = UINT32_MAX;
  const auto take = [&](auto& number) {
    if (disk_form.size() < sizeof number) {
      return false;
    }
    std::memcpy(&number, disk_form.data(), sizeof number);
    disk_form.remove_prefix(sizeof number);
    return true;
  };
  std::string out;
  const auto put = [&](const auto& number) {
    out.append(reinterpret_cast<const char*>(&number), sizeof number);
  };
  std::uint32_t version = 0;
  if (!take(version) || version != disk_version) {
    return std::nullopt;
  }
  put(told_version);
  while (!disk_form.empty()) {
    std::uint16_t tag = 0;
    std::uint16_t rights = 0;
    auto id = nobody;
    if (!take(tag) || !take(rights) || ((tag == user || tag == group) && !take(id))) {
      return std::nullopt;
    }
    put(tag);
    put(rights);
    put(id);
  }
  return out;
}

int keep_xattr(char* name, char* value, std::size_t value_bytes, void* list) {
  static_cast<xattr_list*>(list)->emplace_back(name, std::string{value, value_bytes});
  return 0;
}

result<xattr_list> read_xattrs(file_system& fs, const file_inode& inode) {
  ext2_xattr_handle* handle = nullptr;
  auto code = ext2fs_xattrs_open(fs.handle(), inode.number, &handle);
  xattr_list out;
  if (code == 0) {
    code = ext2fs_xattrs_read(handle);
  }
  if (code == 0) {
    code = ext2fs_xattrs_iterate(handle, keep_xattr, &out);
  }
  if (handle != nullptr) {
    ext2fs_xattrs_close(&handle);
  }
  if (code != 0) {
    return ext4_failure(code, "file system: extended attributes of inode " +
                                  std::to_string(inode.number));
  }
  for (auto& [name, value] : out) {
    if (name == "system.posix_acl_access" || name == "system.posix_acl_default") {
      auto told = posix_acl(value);
      if (!told) {
        return fail(ec::damaged, "file system: a malformed access control list of inode " +
                                     std::to_string(inode.number));
      }
      value = std::move(*told);
    }
  }
  std::size_t bytes = 0;
  std::erase_if(out, [&](const auto& x) {
    bytes += x.first.size() + x.second.size();
    // A name in an extended header ends at its "=".
    return bytes > xattr_bytes_max || x.first.find_first_of("=\n") != x.first.npos;
  });
  return out;
}

std::optional<tar_entry::type> type_of(const file_inode& inode) {
  using type = tar_entry::type;
  const auto mode = inode.fields.i_mode;
  if (inode.is_regular()) {
    return type::regular;
  }
  if (inode.is_directory()) {
    return type::directory;
  }
  if (inode.is_symlink()) {
    return type::soft_link;
  }
  if (LINUX_S_ISCHR(mode)) {
    return type::character_device;
  }
  if (LINUX_S_ISBLK(mode)) {
    return type::block_device;
  }
  if (LINUX_S_ISFIFO(mode)) {
    return type::fifo;
  }
  return std::nullopt; // tar has no sockets: they mean nothing without who listens
}

/// As the kernel keeps them in an inode: the old form, or the new one beside it.
void set_device(tar_entry& out, const file_inode& inode) {
  const auto old_form = inode.fields.i_block[0];
  const auto new_form = inode.fields.i_block[1];
  if (old_form != 0) {
    out.device_major = old_form >> 8u & 0xffu;
    out.device_minor = old_form & 0xffu;
  } else {
    out.device_major = (new_form & 0xfff00u) >> 8u;
    out.device_minor = (new_form & 0xffu) | (new_form >> 12u & 0xfff00u);
  }
}

class archive final : public answer_source {
public:
  archive(file_system& fs, std::string path, const file_inode& inode)
      : fs_{fs}, walk_{fs, std::move(path), inode} {}

  result<frame<proto::InspectAnswer>> next(std::uint64_t content_bytes_max) override {
    part_list out{content_bytes_max};
    while (!has_ended_ && !out.is_full()) {
      if (auto added = add_next(out); !added) {
        return added.error();
      }
    }
    return out.take(has_ended_);
  }

private:
  result<void> add_next(part_list& out) {
    if (content_) {
      if (auto told = content_->tell(out); !told) {
        return told;
      }
      if (content_->has_ended()) {
        out.add(tar_padding(content_->end_bytes));
        content_.reset();
      }
      return {};
    }
    auto found = walk_.next();
    if (!found) {
      return found.error();
    }
    if (!*found) {
      out.add(tar_end());
      has_ended_ = true;
      return {};
    }
    auto entry = entry_of(**found);
    if (!entry) {
      return entry.error();
    }
    if (!*entry) {
      return {};
    }
    out.add(tar_header(**entry));
    if ((*entry)->size_bytes != 0) {
      auto opened = file_cursor::open(fs_, (*found)->inode);
      if (!opened) {
        return opened.error();
      }
      content_ = std::move(*opened);
    }
    return {};
  }

  result<std::optional<tar_entry>> entry_of(const walked& found) {
    auto kind = type_of(found.inode);
    if (!kind) {
      return std::optional<tar_entry>{};
    }
    tar_entry out;
    out.kind = *kind;
    out.path = found.path.empty() ? "." : found.path;
    out.path += found.inode.is_directory() ? "/" : "";
    out.mode = found.inode.fields.i_mode;
    out.uid = found.inode.uid();
    out.gid = found.inode.gid();
    out.mtime_unix_s = found.inode.mtime_unix_s();
    auto xattrs = read_xattrs(fs_, found.inode);
    if (!xattrs) {
      return xattrs.error();
    }
    out.xattrs = std::move(*xattrs);
    if (auto first = first_name(found)) {
      out.kind = tar_entry::type::hard_link;
      out.link = std::move(*first);
    } else if (out.kind == tar_entry::type::soft_link) {
      auto target = read_symlink(fs_, found.inode);
      if (!target) {
        return target.error();
      }
      out.link = std::move(*target);
    } else if (out.kind == tar_entry::type::regular) {
      out.size_bytes = found.inode.size_bytes();
    } else if (out.kind != tar_entry::type::directory) {
      set_device(out, found.inode);
    }
    return std::optional{std::move(out)};
  }

  /// The name under which the archive has the file already.
  std::optional<std::string> first_name(const walked& found) {
    if (found.inode.is_directory() || found.inode.fields.i_links_count < 2) {
      return std::nullopt;
    }
    if (auto known = names_.find(found.inode.number); known != names_.end()) {
      return known->second;
    }
    const auto bytes = link_bytes + found.path.size();
    if (names_bytes_ + bytes <= link_bytes_max) {
      names_bytes_ += bytes;
      names_.emplace(found.inode.number, found.path);
    }
    return std::nullopt;
  }

  file_system& fs_;
  tree_walk walk_;
  std::optional<file_cursor> content_; ///< of the member that came last
  std::unordered_map<std::uint32_t, std::string> names_;
  std::size_t names_bytes_ = 0;
  bool has_ended_ = false;
};

} // namespace

std::unique_ptr<answer_source> make_archive(file_system& fs, std::string path,
                                            const file_inode& inode) {
  return std::make_unique<archive>(fs, std::move(path), inode);
}

} // namespace coppice::storage::inspection
