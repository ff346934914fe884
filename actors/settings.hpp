#pragma once

#include "actors/machine_class.hpp"

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace coppice {

/// Everything an operator can set: one field for each key of configs/coppice.ini, which explains
/// them. Filled by gateway/cli/settings_file.hpp; given to the parts by main.
struct settings {
  std::filesystem::path state_dir = "/var/lib/coppice";

  struct {
    std::uint64_t reserve_bytes = 1ull << 30; ///< less free: no new work; 0: off
  } store;

  struct {
    std::string user; ///< name or number; empty: coppice, or the range's first id
  } daemon;

  struct {
    std::uint32_t uid_first = 1'900'000'000; ///< in no range that Debian or systemd gives out
    std::uint32_t uid_count = 4096;          ///< the first is for the daemon, the rest for jails
  } jail;

  struct {
    std::string listen = "127.0.0.1:8080";
    std::uint64_t json_body_bytes_max = 18u << 20; ///< fits limits::stdin_bytes_max as base64
    std::uint64_t upload_bytes_max = 1ull << 30;
    std::uint32_t connections_max = 10'000;
    std::uint32_t connections_address_max = 8'000; ///< from one address; 0: no limit of its own
    std::uint64_t request_line_bytes_max = 16u << 10;
    std::uint64_t headers_bytes_max = 32u << 10;
    std::uint32_t headers_max = 100;
    std::chrono::seconds idle_timeout{120};  ///< between requests
    std::chrono::seconds header_timeout{20}; ///< from a request's first byte to its header's end
    std::chrono::seconds stall_timeout{30};  ///< over which rate_bytes_min is looked at
    std::uint64_t rate_bytes_min = 256;      ///< per second, of bodies and replies
    std::chrono::seconds drain_timeout{20};  ///< for requests under way when the daemon stops
    std::filesystem::path tls_certificate;   ///< both empty: plain HTTP
    std::filesystem::path tls_key;
    std::vector<std::string> cors_origins;    ///< exact, or one `*`; none: no CORS
    std::vector<std::string> trusted_proxies; ///< addresses and networks
  } http;

  struct {
    std::string qemu = "qemu-system-x86_64";
    std::filesystem::path kernel;     ///< empty: guest/vmlinux beside the program
    std::filesystem::path initramfs;  ///< empty: initramfs.cpio beside the kernel
    std::string accelerator = "auto"; ///< auto, kvm, tcg
    std::uint32_t memory_mib = 256;   ///< with cpus: the default class
    std::uint32_t cpus = 1;
    std::vector<machine_class> classes{{1, 512}, {1, 1024}, {2, 1024}, {2, 2048}}; ///< beside it
    std::uint32_t running_max = 0;      ///< 0: cores under TCG, four times the cores under KVM
    std::uint32_t cpus_max = 0;         ///< of all that run; 0: as many, but what running_max needs
    std::uint64_t memory_bytes_max = 0; ///< of all that run; 0: three quarters of the node's
    std::chrono::seconds boot_timeout{60};
    std::chrono::seconds probe_timeout{10};
    std::chrono::seconds stop_grace{20}; ///< host deadline = command's timeout + this
  } vm;

  struct {
    std::uint32_t floor = 1;                       ///< VMs of the default class that always wait
    std::uint32_t ceiling = 8;                     ///< that wait at most, of all classes; 0: none
    std::uint64_t memory_kept_free = 1ull << 30;   ///< less available: none wait
    std::uint64_t template_bytes_max = 4ull << 30; ///< of templates kept on disk
    std::uint32_t template_uses_max = 0;      ///< VMs from one, then it is made anew; 0: no limit
    std::chrono::seconds template_age_max{0}; ///< then it is made anew; 0: no limit
    bool templates = true;                    ///< else every VM boots, and none waits
  } pool;

  struct {
    std::string skopeo = "skopeo";
    std::vector<std::string> insecure_registries; ///< HOST or HOST:PORT, spoken to over plain HTTP
    std::uint32_t running_max = 2;
    std::chrono::seconds timeout_max{3600};
    std::uint64_t content_bytes_max = 32ull << 30;
  } import;

  struct {
    std::chrono::seconds instance_timeout_default{60};
    std::chrono::seconds instance_timeout_max{3600};
    std::uint64_t layer_bytes_max = 12ull << 30;
    std::uint32_t pending_max = 20'000;         ///< operations that wait or run; beyond: 429
    std::uint32_t pending_project_max = 10'000; ///< of one project
    std::uint32_t inspect_sessions_max = 16;
    std::chrono::seconds inspect_idle_timeout{30};
  } limits;

  struct {
    std::chrono::seconds keep{std::chrono::hours{30 * 24}}; ///< after the end of the operation
    std::uint32_t keep_operations = 100'000;                ///< logs of ended operations
  } events;

  struct {
    bool enabled = false; ///< else `coppice gc` only shows what it would do
    bool keep_tagged = true;
    bool keep_leaves = true;
    std::chrono::seconds keep_younger_than{7 * 86'400}; ///< 0: young ones go too
    std::vector<std::string> keep;                      ///< ids or tags
  } gc;

  struct {
    std::string open_to = "loopback"; ///< operators, loopback, anyone: who may read GET /metrics
  } metrics;

  struct {
    std::string level = "info"; ///< trace, debug, info, warn, error
    std::string file;           ///< empty: standard error
  } log;

  // -- derived
  // -------------------------------------------------------------------------------------

  machine_class default_class() const {
    return {vm.cpus, vm.memory_mib};
  }
  /// All that a run can have, sorted, each once.
  std::vector<machine_class> classes() const;

  std::filesystem::path kernel_path() const;
  std::filesystem::path initramfs_path() const;
  std::filesystem::path admin_socket_path() const {
    return state_dir / "admin.sock";
  }
};

} // namespace coppice
