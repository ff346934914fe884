#pragma once

#include "protocol/result.hpp"
#include "vmm/error.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

/// What the daemon may ask of the launcher, and the bytes in which it asks.
///
/// Problem: the launcher is root and the daemon, which parses everything that the world sends, is
/// not to be trusted. So a request cannot name a program, a path, a user or a variable: only one of
/// the kinds below, arguments for it, and descriptors. Everything is bounded, and a request that is
/// not exactly of this form is refused whole.
namespace coppice::vmm {

/// Kinds of child processes. What a kind may see and do is decided in vmm/jail.cpp.
enum class child_kind : std::uint8_t {
  plain = 0,      ///< started by the daemon itself, never by the launcher
  qemu,           ///< vm.qemu
  import_worker,  ///< `coppice import-worker`: an archive becomes a file system
  inspect_worker, ///< `coppice inspect-worker`: reads one image
  skopeo,         ///< fetches an image; the only one with a network
};

inline constexpr std::size_t child_kinds = 5;

std::string_view to_string(child_kind kind);

/// What a descriptor of a request is for: the number that it gets in the child, or one of these.
namespace placement {
inline constexpr std::int16_t lifeline = -1; ///< the guard's; exactly one
inline constexpr std::int16_t scratch = -2; ///< a folder, seen as /scratch, for reading and writing
inline constexpr std::int16_t layout = -3;  ///< a folder, seen as /layout, for reading
} // namespace placement

struct launch_request {
  child_kind kind = child_kind::plain;
  bool needs_kvm = false;
  std::uint64_t address_space_bytes = 0; ///< 0: what is usual for the kind
  std::uint64_t file_bytes = 0;          ///< largest file that it may write
  std::uint64_t memory_bytes = 0;        ///< of its cgroup, where there is one; 0: no limit
  std::vector<std::int16_t> placements;  ///< one for each descriptor sent along, in order
  std::vector<std::string> arguments;    ///< without argv[0]
};

namespace launch_limits {
inline constexpr std::size_t request_bytes_max = 64u << 10; ///< QEMU's line takes about 2 KiB
inline constexpr std::size_t arguments_max = 256;
inline constexpr std::size_t descriptors_max = 32; ///< the kernel would take 253 in one message
inline constexpr int descriptor_number_max = 255;
} // namespace launch_limits

/// The request's bytes. protocol: it does not fit the limits.
result<std::vector<std::byte>> encode(const launch_request& request);

/// protocol: the bytes are not exactly one valid request with `descriptor_count` descriptors.
result<launch_request> parse_launch_request(std::span<const std::byte> bytes,
                                            std::size_t descriptor_count);

} // namespace coppice::vmm
