#include "gateway/cli/checkup.hpp"
#include "gateway/cli/command.hpp"

#include <CLI/CLI.hpp>

#include <unistd.h>

#include <cstdio>
#include <memory>

namespace coppice::cli {
namespace {

/// Prints findings as they come and remembers the worst.
class report {
public:
  bool add(const finding& f) {
    static constexpr const char* names[] = {"ok", "warn", "FAIL"};
    std::printf("%-5s %-13s %s\n", names[static_cast<int>(f.level)], f.subject.c_str(),
                f.text.c_str());
    if (!f.remedy.empty()) {
      std::printf("      %-13s -> %s\n", "", f.remedy.c_str());
    }
    std::fflush(stdout); // the next check may take seconds
    has_failed_ = has_failed_ || f.level == verdict::fail;
    return f.level != verdict::fail;
  }

  bool has_failed() const {
    return has_failed_;
  }

private:
  bool has_failed_ = false;
};

int examine(const settings& values) {
  report out;
  out.add(check_system());
  out.add(check_processors(values));
  out.add(check_memory(values));
  out.add(check_classes(values));
  out.add(check_rights());
  // Before anything starts a thread.
  for (const auto& f : check_jail(values, std::filesystem::read_symlink("/proc/self/exe"))) {
    out.add(f);
  }
  bool has_qemu = out.add(check_qemu(values));
  bool has_guest = out.add(check_guest_files(values));
  out.add(check_helpers(values));
  out.add(check_io_uring());
  for (const auto& f : check_certificate(values)) {
    out.add(f);
  }
  for (const auto& f : check_state_folder(values)) {
    out.add(f);
  }
  if (has_qemu && has_guest) {
    out.add(check_accelerator(values));
  } else {
    out.add({verdict::fail, "accelerator", "not tried: QEMU or the guest's files are missing",
             "see above"});
  }
  return out.has_failed() ? 1 : 0;
}

} // namespace

void add_doctor(CLI::App& app, int& status) {
  auto* command = app.add_subcommand(
      "doctor", "Check this machine: one line for each thing the daemon needs, with the remedy");
  auto options = std::make_shared<config_options>();
  options->add_to(*command);
  command->allow_extras();
  command->footer("Takes the same --section.key=value as 'coppice serve'.\n"
                  "Exit status 0 when the daemon can run, 1 when a check says FAIL.");
  command->callback([command, options, &status] {
    auto values = options->load(command->remaining());
    status = values ? examine(*values) : failed(values.error().text);
  });
}

} // namespace coppice::cli
