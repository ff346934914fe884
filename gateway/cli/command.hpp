#pragma once

#include "gateway/cli/settings_file.hpp"

#include <filesystem>
#include <string>
#include <vector>

namespace CLI {
class App;
}

/// The subcommands of the program: each file adds one to the app and sets the exit status when its
/// command has run. 0: done. 1: failed, the text is on standard error. 2: used wrongly.
namespace coppice::cli {

void add_serve(CLI::App& app, int& status);
void add_token(CLI::App& app, int& status);
void add_import(CLI::App& app, int& status);
void add_gc(CLI::App& app, int& status);
void add_doctor(CLI::App& app, int& status);
void add_settings(CLI::App& app, int& status);
void add_fsck(CLI::App& app, int& status);
void add_backup(CLI::App& app, int& status);
void add_usage(CLI::App& app, int& status);

/// Internal: what the daemon starts as child processes. Not shown in the help.
void add_workers(CLI::App& app, int& status);

/// The options with which every command finds its settings.
struct config_options {
  std::filesystem::path file;
  std::string state_dir;

  void add_to(CLI::App& command);

  /// `extras` are the arguments that are no options of the command: `--section.key=value`.
  result<settings> load(const std::vector<std::string>& extras = {}) const;
};

/// Puts `coppice: text` on standard error and gives the status of a failed command.
int failed(const std::string& text);

} // namespace coppice::cli
