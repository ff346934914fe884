#include "storage/fsck.hpp"

#include "storage/error.hpp"
#include "storage/fsck_blobs.hpp"
#include "storage/fsck_images.hpp"
#include "storage/fsck_records.hpp"

#include <sys/stat.h>

#include <cerrno>
#include <optional>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace coppice::storage {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view image_suffix = ".qcow2";
constexpr std::string_view overlay_suffix = ".overlay";
constexpr std::size_t id_text_length = 36;
constexpr std::chrono::milliseconds look_interval{100};

/// So many files without a record are looked at again together; memory is bounded by it.
constexpr std::size_t strangers_max = 100'000;

/// So often is a file looked at that looks wrong: each time something else of the store would have
/// to go away meanwhile.
constexpr unsigned tries_max = 3;

/// The image whose sealed file has that name.
std::optional<uuid> image_of_name(const std::string& name) {
  if (name.size() != id_text_length + image_suffix.size() || !name.ends_with(image_suffix)) {
    return std::nullopt;
  }
  auto id = uuid::parse(std::string_view{name}.substr(0, id_text_length));
  return id && id->text() + std::string{image_suffix} == name ? id : std::nullopt;
}

bool is_overlay_name(const std::string& name) {
  return name.size() >= id_text_length + overlay_suffix.size() &&
         uuid::parse(std::string_view{name}.substr(0, id_text_length)) &&
         std::string_view{name}.substr(id_text_length).starts_with(overlay_suffix);
}

/// One proof under way.
class proof {
public:
  proof(const catalog& records, fs::path state_dir, const fsck_options& how,
        const std::function<void(const std::string&)>& tell)
      : records_{records}, images_{state_dir / "images"}, blobs_{state_dir / "blobs"}, how_{how},
        tell_{tell}, checker_{records, images_, how.scrub} {}

  result<fsck_summary> run();

private:
  /// Whether a file has, or may have, no place in the store.
  enum class verdict { known, stranger, overlay };

  result<void> check_files();
  result<void> check_file(const catalog::file_row& row);
  result<void> check_links();
  result<void> check_uploads();
  result<void> check_records();
  result<void> check_folder(const fs::path& folder);
  result<verdict> judge(const fs::path& file) const;
  result<void> settle(std::vector<fs::path> strangers);
  bool is_young(const fs::path& file) const;
  void problem(const std::string& line);

  const catalog& records_;
  fs::path images_;
  fs::path blobs_;
  const fsck_options& how_;
  const std::function<void(const std::string&)>& tell_;
  image_checker checker_;
  fsck_summary found_;
};

void proof::problem(const std::string& line) {
  ++found_.problems;
  tell_(line);
}

result<fsck_summary> proof::run() {
  for (auto next :
       {&proof::check_files, &proof::check_links, &proof::check_uploads, &proof::check_records}) {
    if (auto done = (this->*next)(); !done) {
      return done.error();
    }
  }
  for (const auto* folder : {&images_, &blobs_}) {
    if (auto done = check_folder(*folder); !done) {
      return done.error();
    }
  }
  return found_;
}

result<void> proof::check_files() {
  for (uuid after;;) {
    auto page = records_.list_image_files(after);
    if (!page) {
      return page.error();
    }
    if (page->empty()) {
      return {};
    }
    for (const auto& row : *page) {
      if (auto done = check_file(row); !done) {
        return done;
      }
    }
    after = page->back().image;
  }
}

result<void> proof::check_file(const catalog::file_row& row) {
  auto current = row;
  auto seen = checker_.check(current);
  for (unsigned tries = 1; tries < tries_max && (!seen || !seen->problems.empty()); ++tries) {
    // The image may have been deleted since the page was read, and its file with it; or one that
    // stood on it, and space of its file was given back.
    auto again = records_.get_image_file(row.image);
    if (!again) {
      return again.error().code == ec::not_found ? result<void>{} : again.error();
    }
    current = *again;
    seen = checker_.check(current);
  }
  if (!seen) {
    return seen.error();
  }
  for (const auto& line : seen->problems) {
    problem(line);
  }
  ++(current.is_live ? found_.images : found_.deleted_files);
  found_.file_bytes += seen->allocated_bytes;
  found_.scrubbed_bytes += seen->scrubbed_bytes;
  return {};
}

/// Every image has a row for its file, and both name one parent.
result<void> proof::check_links() {
  for (uuid after;;) {
    auto page = records_.list_image_links(after);
    if (!page) {
      return page.error();
    }
    if (page->empty()) {
      return {};
    }
    for (const auto& link : *page) {
      auto row = records_.get_image_file(link.image);
      if (row && row->parent == link.parent) {
        continue;
      }
      if (!records_.has_image(link.image)) {
        continue; // deleted meanwhile
      }
      problem("catalog: image " + link.image.text() +
              (row ? " has another parent than its file has" : " has no file on record"));
    }
    after = page->back().image;
  }
}

result<void> proof::check_uploads() {
  for (std::string after;;) {
    auto page = records_.list_blobs(after);
    if (!page) {
      return page.error();
    }
    if (page->empty()) {
      return {};
    }
    for (const auto& row : *page) {
      auto wrong = check_blob(blobs_ / blob_file_name(row.digest), row, how_.scrub);
      if (!wrong) {
        return wrong.error();
      }
      if (*wrong) {
        auto still = records_.has_blob(row.digest);
        if (!still) {
          return still.error();
        }
        if (*still) {
          problem(**wrong);
        }
      }
      ++found_.uploads;
      found_.upload_bytes += row.size_bytes;
      found_.scrubbed_bytes += how_.scrub ? row.size_bytes : 0;
    }
    after = page->back().key;
  }
}

result<void> proof::check_records() {
  record_proof rows{records_, how_, [this](const std::string& line) { problem(line); }, found_};
  if (auto done = rows.check_rows(); !done) {
    return done;
  }
  return rows.check_totals();
}

result<proof::verdict> proof::judge(const fs::path& file) const {
  const auto name = file.filename().string();
  if (file.parent_path() == blobs_) {
    const auto digest = digest_of_name(name);
    if (!digest) {
      return verdict::stranger;
    }
    auto has = records_.has_blob(*digest);
    if (!has) {
      return has.error();
    }
    return *has ? verdict::known : verdict::stranger;
  }
  if (const auto image = image_of_name(name)) {
    auto row = records_.get_image_file(*image);
    if (!row && row.error().code != ec::not_found) {
      return row.error();
    }
    return row ? verdict::known : verdict::stranger;
  }
  return is_overlay_name(name) ? verdict::overlay : verdict::stranger;
}

result<void> proof::check_folder(const fs::path& folder) {
  std::vector<fs::path> strangers;
  std::error_code error;
  for (auto at = fs::directory_iterator{folder, error}; !error && at != fs::directory_iterator{};
       at.increment(error)) {
    auto what = judge(at->path());
    if (!what) {
      return what.error();
    }
    if (*what == verdict::known) {
      continue;
    }
    strangers.push_back(at->path());
    if (strangers.size() == strangers_max) {
      if (auto done = settle(std::exchange(strangers, {})); !done) {
        return done;
      }
    }
  }
  if (error) {
    return io_failure(error.value(), "cannot look into " + folder.string());
  }
  return settle(std::move(strangers));
}

/// Made so lately that its record may be on its way.
bool proof::is_young(const fs::path& file) const {
  constexpr std::time_t commit_seconds_max = 60;
  struct stat status {};
  return ::lstat(file.c_str(), &status) == 0 &&
         std::time(nullptr) - status.st_ctim.tv_sec < commit_seconds_max;
}

/// What has no record: a daemon makes the file first and the record after, and removes them in the
/// opposite order, so that each such file soon has both or is gone.
result<void> proof::settle(std::vector<fs::path> strangers) {
  const auto deadline = std::chrono::steady_clock::now() + how_.patience;
  while (!strangers.empty()) {
    const bool is_running = how_.is_daemon_running();
    const bool is_over = !is_running || std::chrono::steady_clock::now() >= deadline;
    std::vector<fs::path> left;
    for (auto& file : strangers) {
      auto what = judge(file);
      if (!what) {
        return what.error();
      }
      struct stat status {};
      if (*what == verdict::known || (::lstat(file.c_str(), &status) != 0 && errno == ENOENT)) {
        continue;
      }
      if (*what == verdict::overlay && is_running) {
        ++found_.overlays;
      } else if (is_over && !(is_running && is_young(file))) {
        problem(file.string() + (*what == verdict::overlay
                                     ? ": left over from a run; the next start removes it"
                                     : ": the catalog has no record of it"));
      } else if (!is_over) {
        left.push_back(std::move(file));
      }
    }
    strangers = std::move(left);
    if (!strangers.empty() && how_.wait) {
      how_.wait();
    } else if (!strangers.empty()) {
      std::this_thread::sleep_for(look_interval);
    }
  }
  return {};
}

} // namespace

result<fsck_summary> fsck(const catalog& records, const fs::path& state_dir,
                          const fsck_options& how,
                          const std::function<void(const std::string&)>& tell) {
  return proof{records, state_dir, how, tell}.run();
}

} // namespace coppice::storage
