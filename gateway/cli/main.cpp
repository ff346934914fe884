// The program `coppice`: the daemon, the operator's commands, and the processes that the daemon
// starts. What a subcommand does is in its own file.

#include "gateway/cli/command.hpp"
#include "vmm/child_process.hpp"
#include "vmm/launcher.hpp"

#include <CLI/CLI.hpp>

#include <cstdio>
#include <exception>
#include <string_view>

namespace {

int run(int argc, char** argv) {
  int status = 0;
  CLI::App app{
      "Coppice: sandboxes that branch like git. Every command runs in its own microVM, and "
      "its file system is kept as a new image.",
      "coppice"};
  app.set_version_flag("--version", "coppice " COPPICE_VERSION);
  app.require_subcommand(1);
  coppice::cli::add_serve(app, status);
  coppice::cli::add_token(app, status);
  coppice::cli::add_import(app, status);
  coppice::cli::add_gc(app, status);
  coppice::cli::add_doctor(app, status);
  coppice::cli::add_settings(app, status);
  coppice::cli::add_fsck(app, status);
  coppice::cli::add_backup(app, status);
  coppice::cli::add_usage(app, status);
  coppice::cli::add_workers(app, status);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  return status;
}

} // namespace

int main(int argc, char** argv) {
  // The guard of a child process: it stands between the daemon and every QEMU, so it starts
  // without looking at anything else.
  if (argc > 1 && std::string_view{argv[1]} == "guard") {
    return coppice::vmm::guard_main(argc, argv);
  }
  // Privileged: neither does it.
  if (argc > 1 && std::string_view{argv[1]} == coppice::vmm::launcher_command) {
    return coppice::vmm::launcher_main(argc, argv);
  }
  try {
    return run(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "coppice: internal error: %s\n", e.what());
    return 1;
  }
}
