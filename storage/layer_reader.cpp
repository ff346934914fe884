#include "storage/layer_reader.hpp"

#include "storage/error.hpp"
#include "storage/printable.hpp"

#include <archive.h>
#include <archive_entry.h>

#include <locale.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <optional>

namespace coppice::storage {

namespace {

/// What one inode's attributes may take; ext4 holds less and says so itself.
constexpr std::size_t xattrs_bytes_max = 64u << 10;
constexpr std::size_t xattrs_count_max = 256;

/// libarchive converts names between character sets unless the locale knows none.
class byte_locale {
public:
  byte_locale() : plain_{::newlocale(LC_ALL_MASK, "C", nullptr)} {
    if (plain_ != nullptr) {
      previous_ = ::uselocale(plain_);
    }
  }
  ~byte_locale() {
    if (plain_ != nullptr) {
      ::uselocale(previous_);
      ::freelocale(plain_);
    }
  }
  byte_locale(const byte_locale&) = delete;
  byte_locale& operator=(const byte_locale&) = delete;

private:
  locale_t plain_;
  locale_t previous_ = nullptr;
};

struct archive_closer {
  void operator()(archive* a) const {
    archive_read_free(a);
  }
};

bool is_kept(std::string_view xattr_name) {
  return xattr_name.starts_with("user.") || xattr_name.starts_with("trusted.") ||
         xattr_name.starts_with("security.") || xattr_name == "system.posix_acl_access" ||
         xattr_name == "system.posix_acl_default";
}

result<std::uint32_t> owner_of(la_int64_t id, const char* what) {
  if (id < 0 || id > 0xffff'ffff) {
    return fail(ec::unsupported, std::string{what} + " " + std::to_string(id));
  }
  return static_cast<std::uint32_t>(id);
}

class layer_reader {
public:
  layer_reader(byte_input& input, layer_tree& tree, file_sink& sink, layer_budget& budget)
      : input_{input}, tree_{tree}, sink_{sink}, budget_{budget}, bytes_before_{
                                                                      budget.content_bytes} {
    // nop
  }

  result<void> run() {
    archive_.reset(archive_read_new());
    auto* a = archive_.get();
    if (a == nullptr || archive_read_support_filter_gzip(a) != ARCHIVE_OK ||
        archive_read_support_filter_zstd(a) != ARCHIVE_OK ||
        archive_read_support_format_tar(a) != ARCHIVE_OK ||
        archive_read_support_format_empty(a) != ARCHIVE_OK) {
      return fail(ec::io, "libarchive lacks tar, gzip or zstd");
    }
    if (archive_read_open2(a, this, nullptr, &layer_reader::read_input, nullptr, nullptr) !=
        ARCHIVE_OK) {
      return archive_failure();
    }
    tree_.begin_layer();
    for (;;) {
      archive_entry* entry = nullptr;
      auto status = archive_read_next_header(a, &entry);
      if (status == ARCHIVE_EOF) {
        break;
      }
      if (status != ARCHIVE_OK && status != ARCHIVE_WARN) {
        return archive_failure();
      }
      if (auto applied = apply(entry); !applied) {
        const char* name = archive_entry_pathname(entry);
        return failure{applied.error().code, "entry " + printable(name == nullptr ? "" : name) +
                                                 ": " + applied.error().text};
      }
    }
    return tree_.end_layer();
  }

private:
  static la_ssize_t read_input(archive* a, void* self_pointer, const void** buffer) {
    auto& self = *static_cast<layer_reader*>(self_pointer);
    auto data = self.input_.next();
    if (!data) {
      self.input_failure_ = data.error();
      archive_set_error(a, EIO, "the layer could not be read");
      return -1;
    }
    *buffer = data->data();
    return static_cast<la_ssize_t>(data->size());
  }

  failure archive_failure() {
    if (input_failure_) {
      return *input_failure_;
    }
    const char* text = archive_error_string(archive_.get());
    return fail(ec::damaged, text == nullptr ? "malformed archive" : text);
  }

  /// Counts what has been unpacked, be it content or not.
  result<void> spend() {
    auto unpacked = archive_filter_bytes(archive_.get(), 0);
    budget_.content_bytes =
        bytes_before_ + static_cast<std::uint64_t>(std::max<la_int64_t>(unpacked, 0));
    if (budget_.content_bytes > budget_.content_bytes_max) {
      return fail(ec::too_large, "the layers unpack to more than " +
                                     std::to_string(budget_.content_bytes_max) + " bytes");
    }
    return {};
  }

  result<void> apply(archive_entry* entry) {
    if (++budget_.entries > budget_.entries_max) {
      return fail(ec::too_large, "more than " + std::to_string(budget_.entries_max) + " entries");
    }
    if (auto spent = spend(); !spent) {
      return spent;
    }
    const char* name = archive_entry_pathname(entry);
    if (name == nullptr) {
      return fail(ec::damaged, "entry without a name");
    }
    auto path = parse_layer_path(name);
    if (!path) {
      return path.error();
    }
    switch (path->what) {
    case layer_path::kind::ignored:
      return skip_content();
    case layer_path::kind::opaque:
      return then_skip(tree_.hide_content(path->components));
    case layer_path::kind::whiteout:
      return then_skip(tree_.hide(path->components));
    case layer_path::kind::entry:
      break;
    }
    if (const char* target = archive_entry_hardlink(entry); target != nullptr) {
      auto target_path = parse_link_target(target);
      if (!target_path) {
        return target_path.error();
      }
      return then_skip(tree_.put_link(path->components, *target_path));
    }
    auto attributes = read_attributes(entry);
    if (!attributes) {
      return attributes.error();
    }
    if (archive_entry_filetype(entry) == AE_IFDIR) {
      return then_skip(tree_.put_directory(path->components, std::move(*attributes)));
    }
    return apply_file(entry, path->components, *attributes);
  }

  result<void> apply_file(archive_entry* entry, const path_components& path,
                          const file_attributes& attributes) {
    file_reference made;
    result<std::uint32_t> number = 0u;
    switch (archive_entry_filetype(entry)) {
    case AE_IFREG:
      made.kind = file_kind::regular;
      number = copy_content(entry, attributes);
      break;
    case AE_IFLNK: {
      made.kind = file_kind::symlink;
      const char* target = archive_entry_symlink(entry);
      number = sink_.make_symlink(attributes, target == nullptr ? "" : target);
      break;
    }
    case AE_IFCHR:
      made.kind = file_kind::character_device;
      number = make_special(made.kind, entry, attributes);
      break;
    case AE_IFBLK:
      made.kind = file_kind::block_device;
      number = make_special(made.kind, entry, attributes);
      break;
    case AE_IFIFO:
      made.kind = file_kind::fifo;
      number = make_special(made.kind, entry, attributes);
      break;
    default:
      return fail(ec::unsupported, "neither file, directory, link, device nor fifo");
    }
    if (!number) {
      return number.error();
    }
    made.number = *number;
    return then_skip(tree_.put_file(path, made));
  }

  result<std::uint32_t> make_special(file_kind kind, archive_entry* entry,
                                     const file_attributes& attributes) {
    auto device_major = archive_entry_rdevmajor(entry);
    auto device_minor = archive_entry_rdevminor(entry);
    // What the kernel's dev_t holds: 12 and 20 bits.
    if (device_major >= (1u << 12) || device_minor >= (1u << 20)) {
      return fail(ec::unsupported, "device number beyond the kernel's");
    }
    return sink_.make_special(kind, attributes, static_cast<std::uint32_t>(device_major),
                              static_cast<std::uint32_t>(device_minor));
  }

  result<std::uint32_t> copy_content(archive_entry* entry, const file_attributes& attributes) {
    auto size = archive_entry_size(entry);
    if (size < 0) {
      return fail(ec::damaged, "negative size");
    }
    if (auto begun = sink_.begin_regular(attributes); !begun) {
      return begun.error();
    }
    auto copied = for_each_block([&](std::uint64_t offset, std::span<const std::byte> data) {
      return data.empty() ? result<void>{} : sink_.write(offset, data);
    });
    if (!copied) {
      return copied.error();
    }
    return sink_.end_regular(static_cast<std::uint64_t>(size));
  }

  template <class Use>
  result<void> for_each_block(Use&& use) {
    for (;;) {
      const void* data = nullptr;
      std::size_t length = 0;
      la_int64_t offset = 0;
      auto status = archive_read_data_block(archive_.get(), &data, &length, &offset);
      if (status == ARCHIVE_EOF) {
        return {};
      }
      if (status != ARCHIVE_OK) {
        return archive_failure();
      }
      if (offset < 0) {
        return fail(ec::damaged, "content before the start of the file");
      }
      if (auto spent = spend(); !spent) {
        return spent;
      }
      if (auto used = use(static_cast<std::uint64_t>(offset),
                          std::span{static_cast<const std::byte*>(data), length});
          !used) {
        return used;
      }
    }
  }

  /// libarchive would skip by itself, but without our limits.
  result<void> skip_content() {
    return for_each_block([](std::uint64_t, std::span<const std::byte>) { return result<void>{}; });
  }

  result<void> then_skip(result<void> done) {
    return done ? skip_content() : done;
  }

  result<file_attributes> read_attributes(archive_entry* entry) {
    auto uid = owner_of(archive_entry_uid(entry), "uid");
    auto gid = owner_of(archive_entry_gid(entry), "gid");
    if (!uid) {
      return uid.error();
    }
    if (!gid) {
      return gid.error();
    }
    file_attributes out;
    out.permissions = archive_entry_perm(entry) & 07777u;
    out.uid = *uid;
    out.gid = *gid;
    if (archive_entry_mtime_is_set(entry) != 0) {
      out.mtime_unix_s = archive_entry_mtime(entry);
      out.mtime_ns = static_cast<std::uint32_t>(
          std::clamp<long>(archive_entry_mtime_nsec(entry), 0, 999'999'999));
    }
    if (auto read = read_xattrs(entry, out.xattrs); !read) {
      return read.error();
    }
    return out;
  }

  static result<void> read_xattrs(archive_entry* entry, std::vector<extended_attribute>& out) {
    std::size_t total = 0;
    const char* name = nullptr;
    const void* value = nullptr;
    std::size_t length = 0;
    archive_entry_xattr_reset(entry);
    while (archive_entry_xattr_next(entry, &name, &value, &length) == ARCHIVE_OK) {
      if (name == nullptr || !is_kept(name)) {
        continue;
      }
      const std::string_view text{name};
      total += text.size() + length;
      if (text.size() > name_bytes_max || total > xattrs_bytes_max ||
          out.size() >= xattrs_count_max) {
        return fail(ec::too_large, "extended attributes beyond 64 KiB, or a name beyond 255 bytes");
      }
      const auto* bytes = static_cast<const std::byte*>(value);
      std::vector<std::byte> copy(bytes, bytes + length);
      // Archives may give one attribute in two notations; the later one counts.
      auto same =
          std::find_if(out.begin(), out.end(), [&](const auto& x) { return x.name == text; });
      if (same != out.end()) {
        same->value = std::move(copy);
      } else {
        out.push_back({std::string{text}, std::move(copy)});
      }
    }
    return {};
  }

  byte_input& input_;
  layer_tree& tree_;
  file_sink& sink_;
  layer_budget& budget_;
  std::uint64_t bytes_before_;
  std::optional<failure> input_failure_;
  std::unique_ptr<archive, archive_closer> archive_;
};

} // namespace

result<void> apply_layer(byte_input& input, layer_tree& tree, file_sink& sink,
                         layer_budget& budget) {
  byte_locale as_bytes;
  return layer_reader{input, tree, sink, budget}.run();
}

} // namespace coppice::storage
