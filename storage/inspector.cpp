#include "storage/inspector.hpp"

#include "protocol/limits.hpp"
#include "storage/error.hpp"
#include "storage/inspector_ext4.hpp"
#include "storage/inspector_grep.hpp"
#include "storage/inspector_owners.hpp"
#include "storage/inspector_parts.hpp"
#include "storage/inspector_walk.hpp"
#include "storage/printable.hpp"

#include <algorithm>

namespace coppice::storage {

namespace {

using inspection::owner_names;

/// What one answer's entries may take: half of a frame.
constexpr std::size_t answer_bytes_max = limits::channel_frame_bytes_max / 2;

/// The fixed part of an entry in a message, generously.
constexpr std::size_t entry_bytes = 128;

struct listed {
  inspection::name_entry name;
  inspection::file_inode inode;
  std::string symlink_target;
};

std::string name_of(const owner_names& names, std::uint32_t number) {
  auto found = names.find(number);
  return found == names.end() ? std::string{} : found->second;
}

void fill(proto::FileEntry::Builder out, const listed& entry, const owner_names& users,
          const owner_names& groups) {
  const auto& inode = entry.inode;
  out.setName(kj::StringPtr{entry.name.name.c_str(), entry.name.name.size()});
  out.setSizeBytes(inode.size_bytes());
  out.setUid(inode.uid());
  out.setGid(inode.gid());
  out.setMode(inode.fields.i_mode);
  out.setMtimeUnixS(inode.mtime_unix_s());
  out.setLinkCount(inode.fields.i_links_count);
  out.setSymlinkTarget(kj::StringPtr{entry.symlink_target.c_str(), entry.symlink_target.size()});
  out.setOwner(name_of(users, inode.uid()));
  out.setGroup(name_of(groups, inode.gid()));
}

} // namespace

struct inspector::impl {
  std::unique_ptr<inspection::file_system> fs;
  std::unique_ptr<inspection::directory_reader> directory;
  std::unique_ptr<inspection::content_reader> file;
  std::uint64_t file_bytes = 0;
  std::uint64_t file_offset = 0;
  bool has_owners = false;
  owner_names users;
  owner_names groups;

  /// A listing without names is better than none, so no failure counts here.
  owner_names read_owners(const char* path) {
    auto inode = inspection::resolve(*fs, path);
    if (!inode || !inode->is_regular()) {
      return {};
    }
    auto content = inspection::content_reader::open(*fs, *inode);
    std::string text(static_cast<std::size_t>(std::min<std::uint64_t>(
                         inode->size_bytes(), inspection::owner_file_bytes_max)),
                     '\0');
    if (!content || !(*content)->read(0, std::as_writable_bytes(std::span{text}))) {
      return {};
    }
    return inspection::parse_owners(text);
  }

  result<listed> look_at(inspection::name_entry name) {
    auto inode = fs->inode(name.number);
    if (!inode) {
      return inode.error();
    }
    listed out{std::move(name), *inode, {}};
    if (inode->is_symlink()) {
      auto target = inspection::read_symlink(*fs, *inode);
      if (!target) {
        return target.error();
      }
      out.symlink_target = std::move(*target);
    }
    return out;
  }
};

inspector::inspector(std::unique_ptr<impl> state) : impl_{std::move(state)} {
  // nop
}

inspector::~inspector() = default;

result<std::unique_ptr<inspector>> inspector::open(std::unique_ptr<block_source> source) {
  auto fs = inspection::file_system::open(std::move(source));
  if (!fs) {
    return fs.error();
  }
  auto state = std::make_unique<impl>();
  state->fs = std::move(*fs);
  return std::unique_ptr<inspector>{new inspector{std::move(state)}};
}

result<void> inspector::open_directory(const std::string& path) {
  impl_->directory.reset();
  auto inode = inspection::resolve(*impl_->fs, path);
  if (!inode) {
    return inode.error();
  }
  if (!inode->is_directory()) {
    return fail(ec::wrong_type, printable(path) + " is not a directory");
  }
  if (!impl_->has_owners) {
    impl_->users = impl_->read_owners("/etc/passwd");
    impl_->groups = impl_->read_owners("/etc/group");
    impl_->has_owners = true;
  }
  auto directory = inspection::directory_reader::open(*impl_->fs, *inode);
  if (!directory) {
    return directory.error();
  }
  impl_->directory = std::move(*directory);
  return {};
}

result<frame<proto::InspectAnswer>> inspector::next_entries(std::size_t entries_max) {
  std::vector<listed> entries;
  std::size_t bytes = 0;
  bool is_last = !impl_->directory;
  while (impl_->directory && entries.size() < entries_max && bytes < answer_bytes_max) {
    auto name = impl_->directory->next();
    if (!name) {
      return name.error();
    }
    if (!*name) {
      is_last = true;
      break;
    }
    auto entry = impl_->look_at(std::move(**name));
    if (!entry) {
      return entry.error();
    }
    bytes += entry_bytes + entry->name.name.size() + entry->symlink_target.size();
    entries.push_back(std::move(*entry));
  }
  return make_frame<proto::InspectAnswer>([&](auto root) {
    root.setLast(is_last);
    auto list = root.initEntries(static_cast<unsigned>(entries.size()));
    for (unsigned i = 0; i < list.size(); ++i) {
      fill(list[i], entries[i], impl_->users, impl_->groups);
    }
  });
}

result<std::uint64_t> inspector::open_file(const std::string& path) {
  impl_->file.reset();
  auto inode = inspection::resolve(*impl_->fs, path);
  if (!inode) {
    return inode.error();
  }
  if (!inode->is_regular()) {
    return fail(ec::wrong_type, printable(path) + " is not a regular file");
  }
  auto opened = inspection::file_cursor::open(*impl_->fs, *inode);
  if (!opened) {
    return opened.error();
  }
  impl_->file = std::move(opened->content);
  impl_->file_bytes = inode->size_bytes();
  impl_->file_offset = 0;
  return impl_->file_bytes;
}

result<std::vector<std::byte>> inspector::next_bytes(std::size_t bytes_max) {
  if (!impl_->file) {
    return std::vector<std::byte>{};
  }
  const auto left = impl_->file_bytes - impl_->file_offset;
  std::vector<std::byte> out(static_cast<std::size_t>(std::min<std::uint64_t>(left, bytes_max)));
  if (auto read = impl_->file->read(impl_->file_offset, out); !read) {
    return read.error();
  }
  impl_->file_offset += out.size();
  return out;
}

result<inspector::file_places> inspector::places(const std::string& path,
                                                 std::uint64_t offset_bytes, std::uint64_t bytes) {
  auto inode = inspection::resolve(*impl_->fs, path);
  if (!inode) {
    return inode.error();
  }
  if (!inode->is_regular()) {
    return fail(ec::wrong_type, printable(path) + " is not a regular file");
  }
  auto file = inspection::file_cursor::open(*impl_->fs, *inode);
  if (!file) {
    return file.error();
  }
  const auto size = file->end_bytes;
  file->offset_bytes = std::min(offset_bytes, size);
  file->end_bytes = file->offset_bytes + std::min(bytes, size - file->offset_bytes);
  return file_places{size, std::make_unique<inspection::file_parts>(std::move(*file))};
}

result<std::unique_ptr<answer_source>> inspector::archive(const std::string& path) {
  auto inode = inspection::resolve(*impl_->fs, path);
  if (!inode) {
    return inode.error();
  }
  return inspection::make_archive(*impl_->fs, inspection::lexical_path(path), *inode);
}

result<std::unique_ptr<answer_source>> inspector::grep(const grep_query& query) {
  return inspection::make_grep(*impl_->fs, query);
}

inspection::file_system& inspector::files() const {
  return *impl_->fs;
}

} // namespace coppice::storage
