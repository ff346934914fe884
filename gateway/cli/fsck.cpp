#include "storage/fsck.hpp"
#include "gateway/cli/command.hpp"
#include "gateway/cli/units.hpp"

#include <CLI/CLI.hpp>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cstdio>
#include <memory>

namespace coppice::cli {
namespace {

constexpr int damage_status = 1;
constexpr int cannot_look_status = 2;

struct fsck_command {
  config_options config;
  bool scrub = false;
};

/// Somebody holds the lock of the state folder.
bool is_daemon_running(const std::filesystem::path& state_dir) {
  const int fd = ::open((state_dir / "lock").c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) {
    return false;
  }
  const bool is_held = ::flock(fd, LOCK_SH | LOCK_NB) != 0;
  ::close(fd);
  return is_held;
}

void print_summary(const storage::fsck_summary& found, bool scrub) {
  std::printf("%llu images, %llu files of deleted ones, %s on disk",
              static_cast<unsigned long long>(found.images),
              static_cast<unsigned long long>(found.deleted_files),
              human_size(found.file_bytes).c_str());
  std::printf("; %llu uploads, %s", static_cast<unsigned long long>(found.uploads),
              human_size(found.upload_bytes).c_str());
  std::printf("; %llu rows of the catalog", static_cast<unsigned long long>(found.catalog_rows));
  if (found.overlays != 0) {
    std::printf("; %llu files of runs under way", static_cast<unsigned long long>(found.overlays));
  }
  if (scrub) {
    std::printf("; %s compared with checksums", human_size(found.scrubbed_bytes).c_str());
  }
  std::printf(found.problems == 0 ? "\nclean\n" : "\n%llu problems\n",
              static_cast<unsigned long long>(found.problems));
}

int check(const fsck_command& given) {
  auto values = given.config.load();
  if (!values) {
    failed(values.error().text);
    return cannot_look_status;
  }
  auto records = storage::catalog::open_read_only(values->state_dir / "catalog");
  if (!records) {
    failed(records.error().text);
    return cannot_look_status;
  }
  storage::fsck_options how;
  how.scrub = given.scrub;
  how.is_daemon_running = [&] {
    return is_daemon_running(values->state_dir);
  };
  auto found = storage::fsck(**records, values->state_dir, how, [](const std::string& line) {
    std::printf("%s\n", line.c_str());
    std::fflush(stdout);
  });
  if (!found) {
    failed(found.error().text);
    return cannot_look_status;
  }
  print_summary(*found, given.scrub);
  if (!found->are_totals_counted) {
    failed("what projects take was not counted: the daemon writes too much; try again later");
    return found->problems == 0 ? cannot_look_status : damage_status;
  }
  return found->problems == 0 ? 0 : damage_status;
}

} // namespace

void add_fsck(CLI::App& app, int& status) {
  auto* command =
      app.add_subcommand("fsck", "Prove the store, read-only; works while the daemon runs");
  auto options = std::make_shared<fsck_command>();
  options->config.add_to(*command);
  command->add_flag("--scrub", options->scrub,
                    "Also read all data and compare it with its checksums");
  command->footer(
      "One line for each problem: what, and where. Exit status: 0 clean, 1 damage, 2 it "
      "could not look.");
  command->callback([options, &status] { status = check(*options); });
}

} // namespace coppice::cli
