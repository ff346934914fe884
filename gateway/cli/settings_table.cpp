#include "gateway/cli/settings_table.hpp"

#include "gateway/cli/lists.hpp"
#include "gateway/cli/settings_rows.hpp"

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

namespace coppice::cli {
namespace {

problem set_registries(settings& s, std::string_view text) {
  auto hosts = items_of(text);
  for (const auto& host : hosts) {
    if (host.empty() || host.find_first_of("/ \t") != host.npos) {
      return "must be hosts separated by commas, each HOST or HOST:PORT without a scheme";
    }
  }
  s.import.insecure_registries = std::move(hosts);
  return std::nullopt;
}

problem set_kept_images(settings& s, std::string_view text) {
  auto names = items_of(text);
  for (const auto& name : names) {
    if (name.empty() || name.find_first_of(" \t") != name.npos) {
      return "must be ids of images or tags, separated by commas";
    }
  }
  s.gc.keep = std::move(names);
  return std::nullopt;
}

problem set_classes(settings& s, std::string_view text) {
  auto classes = parse_classes(text);
  if (!classes) {
    return "must be " + classes_kind();
  }
  s.vm.classes = std::move(*classes);
  return std::nullopt;
}

void add_vm(std::vector<setting>& rows) {
  using std::chrono::seconds;
  rows.push_back(program_row({"vm", "qemu"}, FIELD(vm.qemu),
                             "The QEMU that runs the microVMs (7.2 or later)."));
  rows.push_back(path_row({"vm", "kernel"}, FIELD(vm.kernel), true,
                          "The guest kernel. Empty: guest/vmlinux beside the program, where the "
                          "build puts the packaged one; configs/guest/kernel.sh makes our own."));
  rows.push_back(path_row({"vm", "initramfs"}, FIELD(vm.initramfs), true,
                          "The initramfs with the guest agent. Empty: initramfs.cpio beside the "
                          "kernel."));
  rows.push_back(choice_row(
      {"vm", "accelerator"}, FIELD(vm.accelerator), {"auto", "kvm", "tcg"},
      "auto boots a guest under KVM at start and uses it only if its agent answered; otherwise "
      "TCG, which emulates: slower, and no security boundary by QEMU's own policy. kvm refuses to "
      "run without KVM; tcg does not try it."));
  rows.push_back(count_row({"vm", "memory_mib"}, FIELD(vm.memory_mib), class_memory_mib_min,
                           class_memory_mib_max,
                           "Memory in MiB of a microVM whose run does not ask for resources."));
  rows.push_back(count_row({"vm", "cpus"}, FIELD(vm.cpus), 1, class_cpus_max,
                           "Virtual processors of such a microVM."));
  rows.push_back(setting{"vm", "classes", classes_kind(),
                         "Other sizes of microVMs. A run that asks for resources gets the one with "
                         "the fewest processors, then the least memory, that has what it asks for.",
                         [](const settings& s) { return text_of_classes(s.vm.classes); },
                         set_classes});
  rows.push_back(
      count_row({"vm", "running_max"}, FIELD(vm.running_max), 0, 10'000,
                "MicroVMs that run at once; further runs wait as PENDING. 0: the number of cores "
                "under TCG, four times that under KVM."));
  rows.push_back(count_row({"vm", "cpus_max"}, FIELD(vm.cpus_max), 0, 100'000,
                           "Virtual processors of all microVMs that run at once. 0: the number of "
                           "cores under TCG, four times that under KVM, or what running_max "
                           "microVMs of the usual size have if that is more."));
  rows.push_back(size_row({"vm", "memory_bytes_max"}, FIELD(vm.memory_bytes_max), 0, 64 * tib,
                          "Memory of all microVMs that run at once, with 64 MiB for each QEMU "
                          "itself. 0: three quarters of the machine's."));
  rows.push_back(duration_row({"vm", "boot_timeout"}, FIELD(vm.boot_timeout), seconds{1},
                              seconds{3'600},
                              "A microVM whose agent is not ready after so long is killed and its "
                              "operation fails."));
  rows.push_back(duration_row({"vm", "probe_timeout"}, FIELD(vm.probe_timeout), seconds{1},
                              seconds{600},
                              "How long the trial of KVM may take before TCG is used instead."));
  rows.push_back(
      duration_row({"vm", "stop_grace"}, FIELD(vm.stop_grace), seconds{1}, seconds{3'600},
                   "The host kills a microVM so long after its command's timeout, if the "
                   "agent has not ended the run by then."));
}

void add_pool(std::vector<setting>& rows) {
  rows.push_back(flag_row({"pool", "templates"}, FIELD(pool.templates),
                          "Saves a booted microVM once and starts others from it, in a fraction of "
                          "the time. Without it every run boots, and none wait."));
  rows.push_back(count_row({"pool", "floor"}, FIELD(pool.floor), 0, 1'000,
                           "MicroVMs of the usual class that always wait, started, for a run."));
  rows.push_back(count_row({"pool", "ceiling"}, FIELD(pool.ceiling), 0, 1'000,
                           "MicroVMs that wait at most, of all classes; how many do follows the "
                           "demand. 0: none."));
  rows.push_back(size_row({"pool", "memory_kept_free"}, FIELD(pool.memory_kept_free), 0, 1ull << 50,
                          "With less memory available on this machine none wait."));
  rows.push_back(size_row({"pool", "template_bytes_max"}, FIELD(pool.template_bytes_max), 1 * mib,
                          1ull << 50, "What the saved ones may take below the state folder."));
  rows.push_back(count_row(
      {"pool", "template_uses_max"}, FIELD(pool.template_uses_max), 0, 1'000'000'000,
      "After so many microVMs from a saved one it is made anew, with what its guests share (see "
      "docs/security.md); it serves until the new one is there. 0: no limit. With a limit here or "
      "for the age, none is kept over restarts."));
  rows.push_back(duration_row({"pool", "template_age_max"}, FIELD(pool.template_age_max),
                              std::chrono::seconds{0}, std::chrono::seconds{365ll * 86'400},
                              "A saved one that is so old is made anew. 0: no limit."));
}

void add_daemon(std::vector<setting>& rows) {
  rows.push_back(
      setting{"daemon", "user", "name or number of a user, or empty",
              "The user that a daemon started as root becomes, once its launcher runs; it owns the "
              "state folder. Empty: the user coppice if there is one, else the number "
              "jail.uid_first.",
              [](const settings& s) { return s.daemon.user; },
              [](settings& s, std::string_view text) -> problem {
                s.daemon.user = text;
                return std::nullopt;
              }});
}

void add_jail(std::vector<setting>& rows) {
  rows.push_back(count_row({"jail", "uid_first"}, FIELD(jail.uid_first), 1'000, 2'147'000'000,
                           "First of the user ids that nobody else on this machine has. Each QEMU "
                           "and worker has one for itself."));
  rows.push_back(count_row({"jail", "uid_count"}, FIELD(jail.uid_count), 16, 100'000,
                           "How many there are: as many processes can be jailed at once, less one "
                           "for the daemon."));
}

void add_import(std::vector<setting>& rows) {
  using std::chrono::seconds;
  rows.push_back(program_row({"import", "skopeo"}, FIELD(import.skopeo),
                             "The program that fetches images from registries."));
  rows.push_back(
      setting{"import", "insecure_registries", "HOST or HOST:PORT, separated by commas",
              "Registries that are spoken to over plain HTTP; all others need TLS.",
              [](const settings& s) { return text_of_items(s.import.insecure_registries); },
              set_registries});
  rows.push_back(count_row({"import", "running_max"}, FIELD(import.running_max), 1, 1'000,
                           "Imports that run at once; further ones wait as PENDING."));
  rows.push_back(duration_row({"import", "timeout_max"}, FIELD(import.timeout_max), seconds{1},
                              seconds{7 * 86'400}, "Longest timeout that an import may ask for."));
  rows.push_back(size_row({"import", "content_bytes_max"}, FIELD(import.content_bytes_max), 1 * mib,
                          48 * gib,
                          "Largest content of an imported image, unpacked. An archive can expand a "
                          "thousandfold: this ends it."));
}

void add_limits(std::vector<setting>& rows) {
  using std::chrono::seconds;
  rows.push_back(duration_row({"limits", "instance_timeout_default"},
                              FIELD(limits.instance_timeout_default), seconds{1},
                              seconds{7 * 86'400}, "Timeout of a command that names none."));
  rows.push_back(duration_row({"limits", "instance_timeout_max"},
                              FIELD(limits.instance_timeout_max), seconds{1}, seconds{7 * 86'400},
                              "Longest timeout that a command may ask for."));
  rows.push_back(size_row({"limits", "layer_bytes_max"}, FIELD(limits.layer_bytes_max), 1 * mib,
                          64 * gib, "Most that one run may add to its image."));
  rows.push_back(count_row({"limits", "pending_max"}, FIELD(limits.pending_max), 1, 1'000'000,
                           "Operations that may wait or run; beyond that requests are answered "
                           "429."));
  rows.push_back(count_row({"limits", "pending_project_max"}, FIELD(limits.pending_project_max), 1,
                           1'000'000, "Of these, operations of one project."));
  rows.push_back(count_row({"limits", "inspect_sessions_max"}, FIELD(limits.inspect_sessions_max),
                           1, 1'000,
                           "Listings and downloads that are served from images at once; each is a "
                           "worker process."));
  rows.push_back(duration_row({"limits", "inspect_idle_timeout"},
                              FIELD(limits.inspect_idle_timeout), seconds{1}, seconds{3'600},
                              "A listing or search that its client does not read on for so long "
                              "is ended."));
}

void add_events(std::vector<setting>& rows) {
  using std::chrono::seconds;
  rows.push_back(
      duration_row({"events", "keep"}, FIELD(events.keep), seconds{60}, seconds{36'500ll * 86'400},
                   "The event log of an operation that ended longer ago is given up. Its "
                   "record, its result and the first 4080 bytes of each output stream "
                   "stay."));
  rows.push_back(count_row({"events", "keep_operations"}, FIELD(events.keep_operations), 1,
                           1'000'000'000,
                           "Event logs of ended operations that are kept at most; those that ended "
                           "first go first."));
}

void add_store(std::vector<setting>& rows) {
  rows.push_back(size_row({"store", "reserve_bytes"}, FIELD(store.reserve_bytes), 0, 1024 * gib,
                          "While the state folder's file system has less free than this, new runs, "
                          "imports and uploads are answered 507; what runs goes on. 0: off."));
}

void add_gc(std::vector<setting>& rows) {
  using std::chrono::seconds;
  rows.push_back(
      flag_row({"gc", "enabled"}, FIELD(gc.enabled),
               "Whether coppice gc deletes images. Otherwise it only shows what it would "
               "delete, unless it is called with --yes. The daemon never deletes images "
               "by itself."));
  rows.push_back(flag_row({"gc", "keep_tagged"}, FIELD(gc.keep_tagged),
                          "Keep images that have a tag. Otherwise their tags go with them."));
  rows.push_back(flag_row({"gc", "keep_leaves"}, FIELD(gc.keep_leaves),
                          "Keep images from which no other that is still there was branched."));
  rows.push_back(duration_row({"gc", "keep_younger_than"}, FIELD(gc.keep_younger_than), seconds{0},
                              seconds{3'650ll * 86'400},
                              "Keep images that were made less than so long ago. 0: no image is "
                              "kept for its age."));
  rows.push_back(setting{"gc", "keep", "ids or tags, separated by commas",
                         "Images to keep, whatever else is said here. A tag stands for the image "
                         "that has it, in every project.",
                         [](const settings& s) { return text_of_items(s.gc.keep); },
                         set_kept_images});
}

void add_metrics(std::vector<setting>& rows) {
  rows.push_back(choice_row(
      {"metrics", "open_to"}, FIELD(metrics.open_to), {"operators", "loopback", "anyone"},
      "Who may read GET /metrics without a token. operators: only who may use the admin socket. "
      "loopback: also clients on this machine, unless a proxy asks for them. anyone: every client "
      "of the HTTP API. It tells numbers of the whole node, no names."));
}

void add_log(std::vector<setting>& rows) {
  rows.push_back(choice_row({"log", "level"}, FIELD(log.level),
                            {"trace", "debug", "info", "warn", "error"},
                            "Least severe messages that are logged."));
  rows.push_back(path_row({"log", "file"}, FIELD(log.file), true,
                          "Lines are appended to this file. Empty: standard error."));
}

std::vector<setting> make_table() {
  std::vector<setting> rows;
  rows.push_back(
      path_row({"", "state_dir"}, FIELD(state_dir), false,
               "Folder of images, uploads and the catalog. One daemon at a time uses it. "
               "Its file system must support sparse files (ext4, XFS, btrfs)."));
  add_store(rows);
  add_http_settings(rows);
  add_vm(rows);
  add_pool(rows);
  add_import(rows);
  add_limits(rows);
  add_events(rows);
  add_gc(rows);
  add_daemon(rows);
  add_jail(rows);
  add_metrics(rows);
  add_log(rows);
  return rows;
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    auto diagonal = row[0]++;
    for (std::size_t j = 0; j < b.size(); ++j) {
      auto changed = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({row[j] + 1, row[j + 1] + 1, changed});
    }
  }
  return row.back();
}

} // namespace

std::string setting::key() const {
  return section.empty() ? std::string{name} : std::string{section} + "." + std::string{name};
}

std::span<const setting> settings_table() {
  static const std::vector<setting> table = make_table();
  return table;
}

std::string_view section_title(std::string_view section) {
  static constexpr std::pair<std::string_view, std::string_view> titles[] = {
      {"", "The store"},
      {"store", "Space"},
      {"daemon", "The daemon's own process"},
      {"jail", "Jails: what child processes of a daemon started as root run in (docs/security.md)"},
      {"http", "The HTTP API"},
      {"vm", "MicroVMs"},
      {"pool", "MicroVMs that wait for runs"},
      {"import", "Importing images"},
      {"limits", "Limits on what one request may ask for"},
      {"events", "Event logs of operations"},
      {"gc", "Deleting images that nobody needs any more: coppice gc"},
      {"metrics", "Numbers for Prometheus"},
      {"log", "The log"},
  };
  for (const auto& [name, title] : titles) {
    if (name == section) {
      return title;
    }
  }
  return {};
}

const setting* find_setting(std::string_view key) {
  for (const auto& row : settings_table()) {
    if (row.key() == key) {
      return &row;
    }
  }
  return nullptr;
}

std::string nearest_key(std::string_view key) {
  std::string best;
  auto best_distance = std::numeric_limits<std::size_t>::max();
  for (const auto& row : settings_table()) {
    // The right name in the wrong section is nearer than any misspelling.
    auto distance = key.substr(key.rfind('.') + 1) == row.name ? 0 : edit_distance(key, row.key());
    if (distance < best_distance) {
      best_distance = distance;
      best = row.key();
    }
  }
  return best;
}

} // namespace coppice::cli
