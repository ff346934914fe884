#pragma once

#include "actors/settings.hpp"

#include <filesystem>
#include <string>
#include <vector>

/// What the daemon needs of its machine, checked one by one for `coppice doctor`.
namespace coppice::cli {

enum class verdict {
  ok,
  warn, ///< the daemon works, with less than it could have
  fail, ///< the daemon does not work until the remedy is applied
};

struct finding {
  verdict level = verdict::ok;
  std::string subject;
  std::string text;   ///< what was found
  std::string remedy; ///< what to do; empty where nothing needs to be done
};

finding check_system();
finding check_processors(const settings& values);
finding check_memory(const settings& values);
finding check_classes(const settings& values);
finding check_rights();
finding check_qemu(const settings& values);
finding check_guest_files(const settings& values);
finding check_helpers(const settings& values);
finding check_io_uring();
/// Nothing without TLS.
std::vector<finding> check_certificate(const settings& values);
std::vector<finding> check_state_folder(const settings& values);

/// Starts a launcher from `program` (this one) and ends it: user, launcher, uids, cgroups.
std::vector<finding> check_jail(const settings& values, const std::filesystem::path& program);

/// Boots a guest: takes up to the probe's deadline. Only where QEMU and guest files are in order.
finding check_accelerator(const settings& values);

} // namespace coppice::cli
