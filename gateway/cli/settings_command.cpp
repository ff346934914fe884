#include "gateway/cli/command.hpp"

#include <CLI/CLI.hpp>

#include <cstdio>
#include <memory>

namespace coppice::cli {

void add_settings(CLI::App& app, int& status) {
  auto* command =
      app.add_subcommand("settings", "Print the configuration file that is in effect, explained");
  auto options = std::make_shared<config_options>();
  options->add_to(*command);
  auto only_defaults = std::make_shared<bool>(false);
  command->add_flag("--defaults", *only_defaults, "Print the defaults instead");
  command->allow_extras();
  command->footer("Takes the same --section.key=value as 'coppice serve'.");
  command->callback([command, options, only_defaults, &status] {
    auto loaded =
        *only_defaults ? result<settings>{settings{}} : options->load(command->remaining());
    if (!loaded) {
      status = failed(loaded.error().text);
      return;
    }
    auto text = render_settings(*loaded);
    std::fwrite(text.data(), 1, text.size(), stdout);
  });
}

} // namespace coppice::cli
