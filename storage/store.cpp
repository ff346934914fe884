#include "storage/store.hpp"

#include "storage/blobs.hpp"
#include "storage/error.hpp"
#include "storage/file.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace coppice::storage {

namespace {

constexpr std::string_view image_suffix = ".qcow2";
constexpr std::string_view overlay_suffix = ".overlay";
constexpr std::size_t uuid_text_length = 36;

std::filesystem::path images_dir(const std::filesystem::path& state_dir) {
  return state_dir / "images";
}

std::filesystem::path image_file(const std::filesystem::path& dir, const uuid& image) {
  return dir / (image.text() + std::string{image_suffix});
}

/// The image that a file in images/ belongs to; nothing for names that we never give.
std::optional<uuid> image_of_file(const std::string& name) {
  if (name.size() <= image_suffix.size() || !name.ends_with(image_suffix)) {
    return std::nullopt;
  }
  auto id = uuid::parse(std::string_view{name}.substr(0, name.size() - image_suffix.size()));
  if (!id || id->text() + std::string{image_suffix} != name) {
    return std::nullopt;
  }
  return id;
}

/// Whether that name in images/ is an overlay's, or of what an import puts beside it.
bool is_overlay_file(const std::string& name) {
  auto id = uuid::parse(std::string_view{name}.substr(0, uuid_text_length));
  return id && name.starts_with(id->text() + std::string{overlay_suffix});
}

/// Gives whether it is new.
result<bool> make_directory(const std::filesystem::path& path) {
  if (::mkdir(path.c_str(), 0700) == 0) {
    return true;
  }
  if (errno != EEXIST) {
    return io_failure(errno, "cannot make the folder " + path.string());
  }
  return false;
}

/// The pid that the holder of the lock wrote, as text; "unknown" if there is none.
std::string holder_of(const file& lock) {
  std::array<std::byte, 16> bytes{};
  auto got = lock.read_at(0, bytes);
  std::string_view text{reinterpret_cast<const char*>(bytes.data()), got ? *got : 0};
  int pid = 0;
  auto parsed = std::from_chars(text.data(), text.data() + text.size(), pid);
  return parsed.ec == std::errc{} && pid > 0 ? std::to_string(pid) : "unknown";
}

result<file> take_lock(const std::filesystem::path& path) {
  auto lock = file::open(path, O_RDWR | O_CREAT, 0600);
  if (!lock) {
    return lock;
  }
  if (::flock(lock->fd(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) {
      return io_failure(errno, "cannot lock " + path.string());
    }
    return fail(ec::in_use, "the state folder " + path.parent_path().string() +
                                " is in use by the daemon with pid " + holder_of(*lock) +
                                ": stop that one, or choose another state_dir");
  }
  auto text = std::to_string(::getpid()) + "\n";
  if (auto done = lock->set_size(0); !done) {
    return done.error();
  }
  if (auto done = lock->write_at(0, std::as_bytes(std::span{text})); !done) {
    return done.error();
  }
  return lock;
}

/// Removes what `is_leftover` says of the entries of a folder; they may be folders themselves.
template <class Predicate>
result<std::size_t> remove_entries(const std::filesystem::path& dir, Predicate&& is_leftover) {
  std::error_code error;
  std::vector<std::filesystem::path> leftovers; // a folder is not changed while it is listed
  auto at = std::filesystem::directory_iterator{dir, error};
  for (; !error && at != std::filesystem::directory_iterator{}; at.increment(error)) {
    if (is_leftover(at->path().filename().string())) {
      leftovers.push_back(at->path());
    }
  }
  for (auto i = leftovers.begin(); !error && i != leftovers.end(); ++i) {
    std::filesystem::remove_all(*i, error);
  }
  if (error) {
    return io_failure(error.value(), "cannot remove what was left in " + dir.string());
  }
  return leftovers.size();
}

} // namespace

struct store::impl {
  impl(std::filesystem::path dir, file held) : state_dir{std::move(dir)}, lock{std::move(held)} {}

  std::filesystem::path state_dir;
  file lock;
};

store::store(std::unique_ptr<impl> state) : impl_{std::move(state)} {
  // nop
}

store::~store() = default;

result<std::unique_ptr<store>> store::open(const std::filesystem::path& state_dir) {
  auto is_new = make_directory(state_dir);
  if (!is_new) {
    return is_new.error();
  }
  // The names of folders must be as durable as the files that count on them, also when they were
  // made by a start that was killed before it came to this. Where the folder was given to us, the
  // one above may not be ours to open.
  if (auto synced = sync_directory(state_dir / ".."); !synced && *is_new) {
    return synced.error();
  }
  auto lock = take_lock(state_dir / "lock");
  if (!lock) {
    return lock.error();
  }
  for (auto name : {"images", "blobs", "uploads", "tmp", "catalog"}) {
    if (auto made = make_directory(state_dir / name); !made) {
      return made.error();
    }
  }
  if (auto synced = sync_directory(state_dir); !synced) {
    return synced.error();
  }
  return std::unique_ptr<store>{new store{std::make_unique<impl>(state_dir, std::move(*lock))}};
}

// -- overlays and images
// -----------------------------------------------------------------------------

std::filesystem::path store::overlay_path(const uuid& overlay) const {
  return images_dir(impl_->state_dir) / (overlay.text() + std::string{overlay_suffix});
}

std::filesystem::path store::image_path(const uuid& image) const {
  return image_file(images_dir(impl_->state_dir), image);
}

std::filesystem::path store::blobs_path() const {
  return impl_->state_dir / "blobs";
}

std::filesystem::path store::uploads_path() const {
  return impl_->state_dir / "uploads";
}

// -- start
// -------------------------------------------------------------------------------------------

result<std::size_t>
store::remove_leftovers(const std::function<bool(const uuid&)>& has_record,
                        const std::function<bool(const sha256&)>& has_blob_record) {
  std::size_t removed = 0;
  for (auto name : {"uploads", "tmp"}) {
    auto count = remove_entries(impl_->state_dir / name, [](const std::string&) { return true; });
    if (!count) {
      return count.error();
    }
    removed += *count;
  }
  // Files with other names in images/ and blobs/ are not ours to judge.
  auto count = remove_entries(images_dir(impl_->state_dir), [&](const std::string& name) {
    auto image = image_of_file(name);
    return is_overlay_file(name) || (image && !has_record(*image));
  });
  if (!count) {
    return count.error();
  }
  removed += *count;
  count = remove_entries(impl_->state_dir / "blobs", [&](const std::string& name) {
    auto digest = blobs::digest_of(name);
    return digest && !has_blob_record(*digest);
  });
  if (!count) {
    return count.error();
  }
  return removed + *count;
}

} // namespace coppice::storage
