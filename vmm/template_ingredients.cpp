#include "vmm/command_line.hpp"
#include "vmm/find_program.hpp"
#include "vmm/launcher.hpp"
#include "vmm/probe_clock.hpp"
#include "vmm/template.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <tuple>
#include <vector>

namespace coppice::vmm {

namespace {

/// Counts up with the meaning of the key.
constexpr std::string_view key_format = "coppice template key 1";
constexpr std::size_t piece_bytes = 1u << 20;
/// Any rate: only whether it is known changes the arguments.
constexpr std::uint32_t some_khz = 1'000'000;

struct file_content {
  sha256_digest digest{};
  file_identity identity;
};

file_identity identity_of(const struct stat& st) {
  return {st.st_dev, st.st_ino, static_cast<std::uint64_t>(st.st_size),
          std::int64_t{st.st_mtim.tv_sec} * 1'000'000'000 + st.st_mtim.tv_nsec};
}

failure unreadable(const std::string& path) {
  return fail(errno == ENOENT ? ec::missing : ec::io, path + ": " + std::strerror(errno));
}

/// A descriptor that somebody else holds of one of the guest's files; -1: there is none.
int held_file(const launcher* jailer, const std::filesystem::path& path) {
  return jailer == nullptr ? -1 : jailer->guest_file(path.string());
}

result<file_identity> look_at(const std::string& path, int held = -1) {
  struct stat st {};
  if ((held >= 0 ? ::fstat(held, &st) : ::stat(path.c_str(), &st)) != 0) {
    return unreadable(path);
  }
  return identity_of(st);
}

result<file_content> read_content(const std::string& path, int held) {
  const unique_fd own{held >= 0 ? -1 : ::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  const int file = held >= 0 ? held : own.get();
  struct stat st {};
  if (file < 0 || ::fstat(file, &st) != 0) {
    return unreadable(path);
  }
  sha256 hash;
  std::vector<std::byte> piece(piece_bytes);
  off_t offset = 0; // not the descriptor's own, which others share
  for (;;) {
    const auto n = ::pread(file, piece.data(), piece.size(), offset);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0) {
      return unreadable(path);
    }
    if (n == 0) {
      return file_content{hash.finish(), identity_of(st)};
    }
    hash.add({piece.data(), static_cast<std::size_t>(n)});
    offset += n;
  }
}

/// What a guest that was started with `-cpu host` has seen of the processor.
std::string host_text() {
  utsname host{};
  ::uname(&host);
  std::string out = std::string{"kernel "} + host.release + '\n';
  std::ifstream in{"/proc/cpuinfo"};
  for (std::string line; std::getline(in, line) && !line.empty();) {
    for (const char* name :
         {"vendor_id", "cpu family", "model", "stepping", "microcode", "flags"}) {
      if (line.starts_with(name)) {
        out += line + '\n';
      }
    }
  }
  return out;
}

} // namespace

result<template_ingredients> collect_ingredients(const machine_options& options,
                                                 const launcher* jailer) {
  auto qemu = find_program(options.qemu);
  if (!qemu) {
    return fail(ec::missing, qemu.error().text);
  }
  template_ingredients out;
  out.accel = options.accel;
  out.memory_mib = options.memory_mib;
  out.cpus = options.cpus;
  out.qemu_path = *qemu;
  struct {
    std::string path;
    int held;
    sha256_digest& digest;
    file_identity& identity;
  } const files[] = {
      {*qemu, -1, out.qemu, out.qemu_file},
      {options.kernel.string(), held_file(jailer, options.kernel), out.kernel, out.kernel_file},
      {options.initramfs.string(), held_file(jailer, options.initramfs), out.initramfs,
       out.initramfs_file}};
  for (const auto& file : files) {
    auto content = read_content(file.path, file.held);
    if (!content) {
      return content.error();
    }
    file.digest = content->digest;
    file.identity = content->identity;
  }
  out.tsc_khz = tsc_khz();
  auto without_paths = options;
  without_paths.qemu = "qemu";
  without_paths.kernel = "kernel";
  without_paths.initramfs = "initramfs";
  out.arguments = command_line(without_paths, no_disk(), pick_sockets(no_disk()),
                               memory_kind::mould, out.tsc_khz != 0 ? some_khz : 0);
  if (options.accel == accelerator::kvm) {
    out.host = host_text();
  }
  return out;
}

sha256_digest key_of(const template_ingredients& ingredients) {
  sha256 hash;
  // Each with its length before it: no two lists of ingredients are the same bytes.
  auto add = [&](std::string_view text) {
    hash.add(std::to_string(text.size()) + ' ');
    hash.add(text);
  };
  add(key_format);
  add(to_string(ingredients.accel));
  add(std::to_string(ingredients.memory_mib));
  add(std::to_string(ingredients.cpus));
  for (const auto* digest : {&ingredients.qemu, &ingredients.kernel, &ingredients.initramfs}) {
    add(to_text(*digest));
  }
  add(std::to_string(ingredients.arguments.size()));
  for (const auto& argument : ingredients.arguments) {
    add(argument);
  }
  add(ingredients.host);
  return hash.finish();
}

result<void> check_unchanged(const template_ingredients& ingredients,
                             const machine_options& options, const launcher* jailer) {
  const std::tuple<std::string, int, file_identity> files[] = {
      {ingredients.qemu_path, -1, ingredients.qemu_file},
      {options.kernel.string(), held_file(jailer, options.kernel), ingredients.kernel_file},
      {options.initramfs.string(), held_file(jailer, options.initramfs),
       ingredients.initramfs_file}};
  for (const auto& [path, held, identity] : files) {
    auto now = look_at(path, held);
    if (!now) {
      return now.error();
    }
    if (*now != identity) {
      return fail(ec::stale, path + " has changed since it was read for a template");
    }
  }
  return {};
}

result<void> vm_template::check_fits(const machine_options& options) const {
  const auto& made = parts_.ingredients;
  if (options.accel != made.accel || options.memory_mib != made.memory_mib ||
      options.cpus != made.cpus) {
    return fail(ec::stale, "the template was made for another accelerator, memory or processors");
  }
  auto qemu = find_program(options.qemu);
  if (!qemu) {
    return fail(ec::missing, qemu.error().text);
  }
  auto now = look_at(*qemu);
  if (!now) {
    return now.error();
  }
  if (*now != made.qemu_file) {
    return fail(ec::stale, *qemu + " is not the QEMU that the template was made with");
  }
  return {};
}

} // namespace coppice::vmm
