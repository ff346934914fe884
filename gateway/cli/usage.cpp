#include "gateway/cli/command.hpp"
#include "gateway/cli/units.hpp"
#include "storage/catalog.hpp"

#include <CLI/CLI.hpp>

#include <cstdio>
#include <memory>
#include <string>

namespace coppice::cli {
namespace {

struct usage_command {
  config_options config;
  std::string project;
};

result<void> print_project(const storage::catalog& records, const std::string& name) {
  auto usage = records.get_usage(name);
  if (!usage) {
    return usage.error();
  }
  auto view = usage->view();
  std::printf(
      "%-32s %10llu %12s %10llu %12s\n", name.c_str(),
      static_cast<unsigned long long>(view->getImages()), human_size(view->getImageBytes()).c_str(),
      static_cast<unsigned long long>(view->getFiles()), human_size(view->getFileBytes()).c_str());
  return {};
}

result<void> print_all(const storage::catalog& records) {
  for (std::string after;;) {
    auto page = records.list_projects(after);
    if (!page) {
      return page.error();
    }
    if (page->empty()) {
      return {};
    }
    for (const auto& name : *page) {
      if (auto done = print_project(records, name); !done) {
        return done;
      }
    }
    after = page->back();
  }
}

int show(const usage_command& given) {
  auto values = given.config.load();
  if (!values) {
    return failed(values.error().text);
  }
  auto records = storage::catalog::open_read_only(values->state_dir / "catalog");
  if (!records) {
    return failed(records.error().text);
  }
  std::printf("%-32s %10s %12s %10s %12s\n", "project", "images", "own", "files", "uploaded");
  auto done =
      given.project.empty() ? print_all(**records) : print_project(**records, given.project);
  return done ? 0 : failed(done.error().text);
}

} // namespace

void add_usage(CLI::App& app, int& status) {
  auto* command =
      app.add_subcommand("usage", "Show what each project takes; works while the daemon runs");
  auto options = std::make_shared<usage_command>();
  options->config.add_to(*command);
  command->add_option("--project", options->project, "Only this one")->type_name("NAME");
  command->footer(
      "own: what the files of its images took when they were made. What images share is\n"
      "in the file of one of them, and counted there.");
  command->callback([options, &status] { status = show(*options); });
}

} // namespace coppice::cli
