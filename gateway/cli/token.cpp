#include "gateway/cli/command.hpp"
#include "gateway/cli/new_token.hpp"
#include "gateway/cli/units.hpp"
#include "storage/error.hpp"

#include <CLI/CLI.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <memory>

namespace coppice::cli {
namespace {

struct token_options {
  config_options config;
  token_request request;
  std::string expires_in;
  std::string output;
};

/// A new file beside its final name, so that readers see the old token or the new, never half.
class token_file {
public:
  explicit token_file(const std::string& path) : path_{path}, temporary_{path + ".new"} {}

  ~token_file() {
    if (fd_ >= 0) {
      ::close(fd_);
      ::unlink(temporary_.c_str());
    }
  }
  token_file(const token_file&) = delete;
  token_file& operator=(const token_file&) = delete;

  result<void> open() {
    ::unlink(temporary_.c_str());
    fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd_ < 0) {
      return storage::io_failure(errno, "cannot write the token file " + temporary_);
    }
    return {};
  }

  result<void> finish(const std::string& token) {
    auto line = token + "\n";
    if (::write(fd_, line.data(), line.size()) != static_cast<ssize_t>(line.size()) ||
        ::fsync(fd_) != 0 || ::rename(temporary_.c_str(), path_.c_str()) != 0) {
      return storage::io_failure(errno, "cannot write the token file " + path_);
    }
    ::close(fd_);
    fd_ = -1;
    return {};
  }

private:
  std::string path_;
  std::string temporary_;
  int fd_ = -1;
};

result<std::unique_ptr<storage::catalog>> open_catalog(const settings& values) {
  // Made like the daemon makes it, so that tokens can come first.
  std::error_code error;
  if (std::filesystem::create_directories(values.state_dir, error)) {
    ::chmod(values.state_dir.c_str(), 0700);
  }
  if (error) {
    return storage::io_failure(error.value(),
                               "cannot make the state folder " + values.state_dir.string());
  }
  return storage::catalog::open(values.state_dir / "catalog");
}

int create(token_options& options) {
  auto values = options.config.load();
  if (!values) {
    return failed(values.error().text);
  }
  if (!options.expires_in.empty()) {
    auto duration = parse_duration(options.expires_in);
    if (!duration || duration->count() == 0 || duration->count() > 3650ll * 86'400) {
      return failed("--expires-in must be a duration with a unit, 1s to 3650d, as in 30d");
    }
    options.request.expires_in = *duration;
  }
  auto catalog = open_catalog(*values);
  if (!catalog) {
    return failed(catalog.error().text);
  }
  token_file file{options.output};
  if (!options.output.empty()) {
    if (auto opened = file.open(); !opened) {
      return failed(opened.error().text);
    }
  }
  auto token = create_token(**catalog, options.request);
  if (!token) {
    return failed(token.error().text);
  }
  if (options.output.empty()) {
    std::printf("%s\n", token->c_str());
    return 0;
  }
  if (auto written = file.finish(*token); !written) {
    return failed(written.error().text);
  }
  std::fprintf(stderr, "token for project %s written to %s (mode 0600)\n",
               options.request.project.c_str(), options.output.c_str());
  return 0;
}

} // namespace

void add_token(CLI::App& app, int& status) {
  auto* token = app.add_subcommand("token", "Manage access tokens");
  token->require_subcommand(1);
  auto* command = token->add_subcommand(
      "create", "Make a token and print it; it cannot be shown again. Works while the daemon runs");
  auto options = std::make_shared<token_options>();
  options->config.add_to(*command);
  command
      ->add_option("--project", options->request.project,
                   "The project whose images, files and operations it gives access to: 1 to 64 "
                   "of a-z 0-9 . _ - (default: default)")
      ->type_name("NAME");
  command->add_option("--expires-in", options->expires_in, "As in 12h or 30d (default: never)")
      ->type_name("DURATION");
  command
      ->add_option("--permissions", options->request.permissions,
                   "Separated by commas: import, spawn, spawn_disposable, list, cancel, "
                   "set_image_tag, delete_image (default: all)")
      ->delimiter(',')
      ->type_name("NAMES");
  command
      ->add_option("--output", options->output,
                   "Write it to this file, mode 0600, instead of standard output")
      ->type_name("FILE");
  command->callback([options, &status] { status = create(*options); });
}

} // namespace coppice::cli
