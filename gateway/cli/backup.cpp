#include "storage/backup.hpp"
#include "gateway/cli/command.hpp"
#include "gateway/cli/units.hpp"

#include <CLI/CLI.hpp>

#include <cstdio>
#include <memory>
#include <string>

namespace coppice::cli {
namespace {

struct backup_command {
  config_options config;
  std::string target;
};

int copy(const backup_command& given) {
  auto values = given.config.load();
  if (!values) {
    return failed(values.error().text);
  }
  std::error_code error;
  auto target = std::filesystem::absolute(given.target, error).lexically_normal();
  if (!target.has_filename()) {
    target = target.parent_path();
  }
  auto records = storage::catalog::open_read_only(values->state_dir / "catalog");
  if (!records) {
    return failed(records.error().text);
  }
  auto done = storage::backup(**records, values->state_dir, target);
  if (!done) {
    return failed(done.error().text);
  }
  std::printf("%llu image files and %llu uploads, %s, and the catalog, %s, are in %s\n",
              static_cast<unsigned long long>(done->images),
              static_cast<unsigned long long>(done->blobs), human_size(done->copied_bytes).c_str(),
              human_size(done->catalog_bytes).c_str(), target.c_str());
  return 0;
}

} // namespace

void add_backup(CLI::App& app, int& status) {
  auto* command = app.add_subcommand(
      "backup", "Copy the whole store as of one moment; works while the daemon runs");
  auto options = std::make_shared<backup_command>();
  options->config.add_to(*command);
  command->add_option("DIR", options->target, "A new or empty folder; it becomes a state folder")
      ->required();
  command->footer("Restored by starting on it: coppice serve --state-dir DIR.");
  command->callback([options, &status] { status = copy(*options); });
}

} // namespace coppice::cli
