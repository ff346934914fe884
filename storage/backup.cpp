#include "storage/backup.hpp"

#include "storage/catalog.hpp"
#include "storage/error.hpp"
#include "storage/file.hpp"
#include "storage/fsck_blobs.hpp"
#include "storage/sparse_copy.hpp"

#include <sys/stat.h>

#include <cerrno>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

namespace coppice::storage {

namespace {

namespace fs = std::filesystem;

std::string image_name(const uuid& image) {
  return image.text() + ".qcow2";
}

result<void> make_folder(const fs::path& path) {
  return ::mkdir(path.c_str(), 0700) == 0
             ? result<void>{}
             : io_failure(errno, "cannot make the folder " + path.string());
}

/// The folder that is being filled: empty again unless it is kept.
class unfinished_folder {
public:
  static result<unfinished_folder> make(const fs::path& path) {
    std::error_code error;
    if (::mkdir(path.c_str(), 0700) == 0) {
      return unfinished_folder{path, true};
    }
    if (errno != EEXIST) {
      return io_failure(errno, "cannot make the folder " + path.string());
    }
    const bool is_empty = fs::is_empty(path, error);
    if (error) {
      return io_failure(error.value(), "cannot look into " + path.string());
    }
    if (!fs::is_directory(path, error) || !is_empty) {
      return fail(ec::conflict, path.string() + " is not empty; name a new or an empty folder");
    }
    return unfinished_folder{path, false};
  }

  unfinished_folder(unfinished_folder&& other) noexcept
      : path_{std::exchange(other.path_, {})}, is_ours_{other.is_ours_} {}
  unfinished_folder& operator=(unfinished_folder&&) = delete;

  ~unfinished_folder() {
    std::error_code ignored;
    if (path_.empty()) {
      return;
    }
    for (auto name : {"catalog.partial", "catalog", "images", "blobs"}) {
      fs::remove_all(path_ / name, ignored);
    }
    if (is_ours_) {
      fs::remove(path_, ignored);
    }
  }

  void keep() {
    path_.clear();
  }

private:
  unfinished_folder(fs::path path, bool is_ours) : path_{std::move(path)}, is_ours_{is_ours} {}

  fs::path path_;
  bool is_ours_;
};

/// One backup under way.
class copier {
public:
  copier(const catalog& live, fs::path from, fs::path to, const backup_options& how)
      : live_{live}, from_{std::move(from)}, to_{std::move(to)}, how_{how} {}

  result<backup_summary> run();

private:
  enum class verdict { whole, again };

  result<void> copy_catalog();
  result<verdict> copy_files(const catalog& named);
  result<verdict> copy_images(const catalog& named);
  result<verdict> copy_blobs(const catalog& named);
  result<verdict> compare(const catalog& named);
  result<bool> copy_one(const char* folder, const std::string& name);
  result<void> remove_strays(const catalog& named);
  result<void> finish();

  const catalog& live_;
  fs::path from_;
  fs::path to_;
  const backup_options& how_;
  backup_summary done_;
};

result<backup_summary> copier::run() {
  for (auto name : {"images", "blobs"}) {
    if (auto made = make_folder(to_ / name); !made) {
      return made.error();
    }
  }
  while (done_.rounds < how_.rounds_max) {
    ++done_.rounds;
    if (auto copied = copy_catalog(); !copied) {
      return copied.error();
    }
    if (how_.after_catalog) {
      how_.after_catalog(done_.rounds);
    }
    auto named = catalog::open_read_only(to_ / "catalog.partial", true);
    if (!named) {
      return named.error();
    }
    auto outcome = copy_files(**named);
    if (!outcome) {
      return outcome.error();
    }
    if (*outcome == verdict::again) {
      continue;
    }
    if (auto removed = remove_strays(**named); !removed) {
      return removed.error();
    }
    named->reset();
    if (auto ended = finish(); !ended) {
      return ended.error();
    }
    return done_;
  }
  return fail(ec::conflict, "images were deleted faster than they could be copied, " +
                                std::to_string(done_.rounds) +
                                " times; try again when no garbage is being collected");
}

result<void> copier::copy_catalog() {
  const auto folder = to_ / "catalog.partial";
  std::error_code error;
  fs::remove_all(folder, error);
  if (error) {
    return io_failure(error.value(), "cannot remove " + folder.string());
  }
  if (auto made = make_folder(folder); !made) {
    return made;
  }
  if (auto copied = live_.copy_to(folder); !copied) {
    return copied;
  }
  done_.catalog_bytes = fs::file_size(folder / "data.mdb", error);
  return {};
}

result<copier::verdict> copier::copy_files(const catalog& named) {
  using step = result<verdict> (copier::*)(const catalog&);
  for (step next : {&copier::copy_images, &copier::copy_blobs, &copier::compare}) {
    auto done = (this->*next)(named);
    if (!done || *done == verdict::again) {
      return done;
    }
  }
  return verdict::whole;
}

result<bool> copier::copy_one(const char* folder, const std::string& name) {
  const auto target = to_ / folder / name;
  std::error_code error;
  if (fs::exists(target, error)) {
    return true; // in an earlier round, or another project has it too
  }
  const auto source = from_ / folder / name;
  auto copied = copy_sparse(source, target);
  if (copied) {
    done_.copied_bytes += copied->data_bytes;
    return true;
  }
  if (copied.error().code == ec::not_found && !fs::exists(source, error)) {
    return false;
  }
  return copied.error();
}

result<copier::verdict> copier::copy_images(const catalog& named) {
  done_.images = 0;
  for (uuid after;;) {
    auto page = named.list_image_files(after);
    if (!page) {
      return page.error();
    }
    if (page->empty()) {
      return verdict::whole;
    }
    for (const auto& row : *page) {
      auto there = copy_one("images", image_name(row.image));
      if (!there) {
        return there.error();
      }
      if (!*there) {
        if (auto now = live_.get_image_file(row.image); now || now.error().code != ec::not_found) {
          return now ? fail(ec::damaged, "the file of image " + row.image.text() +
                                             " is missing from the store; see coppice fsck")
                     : now.error();
        }
        return verdict::again;
      }
      ++done_.images;
    }
    after = page->back().image;
  }
}

result<copier::verdict> copier::copy_blobs(const catalog& named) {
  done_.blobs = 0;
  for (std::string after;;) {
    auto page = named.list_blobs(after);
    if (!page) {
      return page.error();
    }
    if (page->empty()) {
      return verdict::whole;
    }
    for (const auto& row : *page) {
      auto there = copy_one("blobs", blob_file_name(row.digest));
      if (!there) {
        return there.error();
      }
      if (!*there) {
        auto now = live_.has_blob(row.digest);
        if (!now) {
          return now.error();
        }
        if (*now) {
          return fail(ec::damaged, "the upload " + blob_file_name(row.digest) +
                                       " is missing from the store; see coppice fsck");
        }
        return verdict::again;
      }
      ++done_.blobs;
    }
    after = page->back().key;
  }
}

/// An image that was deleted while files were copied may have lost clusters before its were.
result<copier::verdict> copier::compare(const catalog& named) {
  for (uuid after;;) {
    auto page = named.list_image_links(after);
    if (!page) {
      return page.error();
    }
    if (page->empty()) {
      return verdict::whole;
    }
    for (const auto& row : *page) {
      if (!live_.has_image(row.image)) {
        return verdict::again;
      }
    }
    after = page->back().image;
  }
}

/// A first round copies nothing but what its catalog names.
result<void> copier::remove_strays(const catalog& named) {
  std::error_code error;
  for (auto at = fs::directory_iterator{to_ / "images", error};
       done_.rounds > 1 && !error && at != fs::directory_iterator{}; at.increment(error)) {
    const auto name = at->path().filename().string();
    const auto image = uuid::parse(name.substr(0, name.find('.')));
    if (!image || named.has_image_file(*image)) {
      continue;
    }
    // Whether a listing goes on to show what is removed meanwhile makes no difference.
    if (auto removed = remove_file(at->path()); !removed) {
      return removed.error();
    }
  }
  return error ? io_failure(error.value(), "cannot tidy " + to_.string()) : result<void>{};
}

result<void> copier::finish() {
  std::error_code error;
  fs::remove(to_ / "catalog.partial" / "lock.mdb", error);
  for (auto name : {"images", "blobs", "catalog.partial"}) {
    if (auto synced = sync_directory(to_ / name); !synced) {
      return synced;
    }
  }
  // Last: without a catalog nobody takes this folder for a whole store.
  if (auto moved = move_durably(to_ / "catalog.partial", to_ / "catalog"); !moved) {
    return moved;
  }
  return sync_directory(to_.has_parent_path() ? to_.parent_path() : ".");
}

} // namespace

result<backup_summary> backup(const catalog& live, const fs::path& state_dir,
                              const fs::path& target, const backup_options& how) {
  auto folder = unfinished_folder::make(target);
  if (!folder) {
    return folder.error();
  }
  auto done = copier{live, state_dir, target, how}.run();
  if (done) {
    folder->keep();
  }
  return done;
}

} // namespace coppice::storage
