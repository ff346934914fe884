#include "gateway/cli/command.hpp"

#include <CLI/CLI.hpp>

#include <cstdio>
#include <system_error>

namespace coppice::cli {

void config_options::add_to(CLI::App& command) {
  command.add_option("--config", file, "Configuration file (default: /etc/coppice/coppice.ini)")
      ->type_name("FILE");
  command.add_option("--state-dir", state_dir, "Overrides state_dir of the configuration")
      ->type_name("DIR");
}

result<settings> config_options::load(const std::vector<std::string>& extras) const {
  auto overrides = overrides_from(extras);
  if (!overrides) {
    return overrides.error();
  }
  if (!state_dir.empty()) {
    std::error_code error;
    auto absolute = std::filesystem::absolute(state_dir, error);
    overrides->emplace_back("state_dir", error ? state_dir : absolute.lexically_normal().string());
  }
  return load_settings(file, *overrides);
}

int failed(const std::string& text) {
  std::fprintf(stderr, "coppice: %s\n", text.c_str());
  return 1;
}

} // namespace coppice::cli
